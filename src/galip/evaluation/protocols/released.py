"""What the released code measures, so that its numbers and ours can stand side by side."""

from galip.evaluation.protocols.schema import Protocol

BATCH = 64
"""Of the released code's evaluation, which leaves the last incomplete batch of a pass out."""

_HOW = (
    "224 px, not quantised; torchvision's ImageNet Inception at 299 px, bilinear without antialiasing; statistics of "
    "real images from an .npz file; CLIP score by the loss's own CLIP with the release's input mapping. For comparison "
    "with published numbers only."
)

COCO = Protocol(
    name="released_coco",
    about=f"As the released code measures COCO: the validation set's 632 whole batches of 64, 40,448 images. {_HOW}",
    split="COCO val2014 (`galip data prepare coco`, part validation)",
    records=40504,
    captions="passes",
    whole_batches_of=BATCH,
    expected_images=632 * BATCH,
    resolution=224,
    quantise=False,
    reference="statistics",
    metrics=("fid_released", "clip_score_released"),
)

RELEASED = (
    COCO,
    COCO.changed(
        name="released_cc12m_coco",
        about=f"As the released code measures a CC12M model: zero-shot on COCO, just as released_coco. {_HOW}",
    ),
    COCO.changed(
        name="released_cub",
        about="As the released code measures birds: 45 whole batches of 64 of the test images in each of twelve "
        f"passes: 34,560 images. {_HOW}",
        split="CUB-200-2011 by classes (`galip data prepare cub --split-lists`, part test)",
        records=2933,
        passes=12,
        expected_images=45 * BATCH * 12,
    ),
)
