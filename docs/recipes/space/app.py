"""A Gradio Space: prompts in, images out, on a free CPU. GALIP_MODEL names another model, also a hub id."""

import os
import secrets

import gradio as gr

import galip
from galip.errors import GalipError

MODEL = os.environ.get("GALIP_MODEL", "emoji-64")
pipe = galip.load(MODEL)


def generate(prompt: str, count: float, seed: float, truncation: float) -> tuple[list, str]:
    """The images of a prompt, and their seeds."""
    first = secrets.randbelow(2**31) if seed < 0 else int(seed)
    try:
        images, seeds = pipe(prompt, num_images_per_prompt=int(count), seed=first, truncation=truncation)
    except GalipError as error:
        raise gr.Error(str(error)) from error
    return images, f"seeds {seeds[0]} to {seeds[-1]}"


demo = gr.Interface(
    generate,
    inputs=[
        gr.Textbox(label="Prompt", value="3d emoji of red heart"),
        gr.Slider(1, 16, value=8, step=1, label="Images"),
        gr.Number(-1, precision=0, label="Seed (-1: another one each time)"),
        gr.Slider(0.1, 1.0, value=1.0, label="Truncation: lower is more typical"),
    ],
    outputs=[gr.Gallery(label="Images", columns=4), gr.Textbox(label="Seeds")],
    title=f"galip: {MODEL}",
    description="Text to image in one forward pass.",
)

if __name__ == "__main__":
    demo.launch()
