"""What control of the bundled model is worth, asked of a judge that took part in nothing.

    python benchmarks/control.py [--only reranking refinement inversion smoothness]

reranking    `best_of` with k = 1, 2, 4, 8, 16: the model's own CLIP chooses, the judge of the protocol emoji64 says
             what that is worth (cosine of picture and caption, and how often the caption is the nearest of 100). Beside
             it what the judge would get if it chose itself.
refinement   `refine` with several angles: the score that is climbed, and the judge's.
inversion    `invert` on pictures that the model drew and on real ones (of `recipes/emoji`, where they are on this
             machine): PSNR, similarity in the CLIP of the loss and in the judge.
smoothness   `path_length` of walks in noise and between captions, and with other steps.

Intervals: 95 %, bootstrap over captions or pictures; gains are of pairs. Costs are seconds of processor time on one
thread, which other work on the machine hardly changes. About 15 minutes of them in all; each part is written to
`results/control.json` when it is done. `control_tables.py` fills the tables of docs/control.md in from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, table, write_result
from PIL import Image

import galip
from galip.data.open import open_source
from galip.evaluation.bundle import bundle_of, read_bundle
from galip.evaluation.extractors.judge import JudgeExtractor
from galip.evaluation.intervals import bootstrap_mean
from galip.evaluation.metrics.clip_score import clip_cosines
from galip.evaluation.metrics.r_precision import right_caption_chances
from galip.generation.prompts import clean_caption
from galip.latent import best_of, invert, path_length, refine, stream_best
from galip.model_repo.resolve import weights_of
from galip.utils.provenance import machine

KS = (1, 2, 4, 8, 16)
ANGLES = ((20.0, 0.0), (40.0, 0.0), (40.0, 15.0))
EPSILONS = (1e-4, 1e-3, 1e-2, 1e-1)
REAL = Path(__file__).parents[1] / "recipes" / "emoji" / "work" / "data" / "held_out_pairs"
FIRST_UNSEEN = 1_000_000
"""Seeds of pictures to invert: none of them is a start of the search."""

Row = dict[str, Any]


class Judge:
    """The judge of the protocol emoji64 and the captions that it can read."""

    def __init__(self) -> None:
        self.bundle = read_bundle(bundle_of("emoji64"))
        self.extractor = JudgeExtractor(self.bundle.judge, self.bundle.texts)

    def captions(self, count: int) -> list[str]:
        """Different captions, chosen by a fixed seed; a smaller choice is the beginning of a larger one."""
        # The judge knows them as they are listed, the pipeline draws them cleaned: only where that is the same.
        listed = list(dict.fromkeys(c for entry in self.bundle.listed if clean_caption(c := entry.caption) == c))
        order = np.random.default_rng(0).permutation(len(listed))
        return [listed[place] for place in order[:count]]

    def see(self, images: Sequence[Image.Image]) -> np.ndarray[Any, Any]:
        """Vectors [N, D] of pictures."""
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
        return np.concatenate([self.extractor(part).numpy() for part in pixels.split(64)])

    def read(self, captions: Sequence[str]) -> np.ndarray[Any, Any]:
        """Vectors [N, D] of captions."""
        return self.extractor.encode_text(captions).numpy()


def estimate(values: Any) -> Row:
    """A mean with its interval."""
    found = bootstrap_mean(np.asarray(values, dtype=np.float64))
    return {"value": found.value, "low": found.low, "high": found.high}


def shown(number: Row | None, digits: int = 3) -> str:
    """An estimate as people read it."""
    if number is None:
        return ""
    return f"{number['value']:.{digits}f} ({number['low']:.{digits}f} to {number['high']:.{digits}f})"


def seconds_of(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the processor's seconds that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


# ---- reranking


def reranking(pipe: Any, judge: Judge, options: argparse.Namespace) -> Row:
    """One draw of 16 for each caption serves every k: the best of k is the best of the first k."""
    captions, most = judge.captions(options.captions), max(KS)
    own, judged, vectors = [], [], []
    for chosen in stream_best(pipe, captions, range(most), keep=most):
        order = np.argsort(chosen.seeds)  # back to the order of the seeds
        seen = judge.see([chosen.images[place] for place in order])
        said = np.repeat(judge.read([chosen.prompt]), most, axis=0)
        own.append(chosen.all_scores)
        judged.append(clip_cosines(seen, said))
        vectors.append(seen)
    scores, verdicts, seen = np.array(own), np.array(judged), np.stack(vectors)
    texts, every = judge.read(captions), np.arange(len(captions))
    rows = []
    for k in KS:
        place = scores[:, :k].argmax(1)
        verdict = verdicts[every, place]
        timed = captions[: options.timed]
        _, seconds = seconds_of(lambda k=k, timed=timed: best_of(pipe, timed, k, seed=0))
        rows.append(
            {
                "k": k,
                "own": estimate(scores[every, place]),
                "judge": estimate(verdict),
                "gain": estimate(verdict - verdicts[:, 0]) if k > 1 else None,
                "judge_choosing": estimate(verdicts[:, :k].max(1)),
                "right_of_100": estimate(right_caption_chances(seen[every, place], texts, captions)),
                "seconds": seconds / len(timed),
            }
        )
    agreement = estimate([np.corrcoef(a, b)[0, 1] for a, b in zip(scores, verdicts, strict=True)])
    return {"captions": len(captions), "rows": rows, "agreement": agreement}


def show_reranking(found: Row) -> None:
    """The table of `reranking`."""
    print(f"\nreranking, {found['captions']} captions, seeds 0 to {max(KS) - 1}; the model's own CLIP chooses\n")
    head = ["k", "own CLIP", "judge", "gain", "if the judge chose", "right of 100", "s a caption"]
    rows = [
        [
            row["k"],
            *(shown(row[name]) for name in ("own", "judge", "gain", "judge_choosing")),
            shown(row["right_of_100"], 2),
            row["seconds"],
        ]
        for row in found["rows"]
    ]
    print(table(head, rows))
    print(f"\ncorrelation of the two over the seeds of one caption: {shown(found['agreement'], 2)}")


# ---- refinement


def refinement(pipe: Any, judge: Judge, options: argparse.Namespace) -> Row:
    """Each caption's picture of seed 0, before and after, looked for among as many captions as in `reranking`."""
    captions, rivals = judge.captions(options.refined), judge.captions(options.captions)
    texts = judge.read(captions)
    before, rows = judge.see(pipe(captions, seed=0).images), []
    first = clip_cosines(before, texts)

    def right(vectors: np.ndarray[Any, Any]) -> Row:
        fill = np.repeat(vectors[:1], len(rivals) - len(captions), axis=0)  # of captions that are rivals alone
        every = right_caption_chances(np.concatenate([vectors, fill]), judge.read(rivals), rivals)
        return estimate(every[: len(captions)])

    for angle, sentence_angle in ANGLES:
        options_of = {"seed": 0, "steps": options.steps, "angle": angle, "sentence_angle": sentence_angle}
        found, seconds = seconds_of(lambda given=options_of: refine(pipe, captions, **given))
        seen = judge.see(found.images)
        verdict = clip_cosines(seen, texts)
        rows.append(
            {
                "angle": angle,
                "sentence_angle": sentence_angle,
                "own": estimate(found.scores),
                "own_gain": estimate(np.subtract(found.scores, found.start_scores)),
                "judge": estimate(verdict),
                "gain": estimate(verdict - first),
                "right_of_100": right(seen),
                "turned": float(np.mean(found.angles)),
                "seconds": seconds / len(captions),
            }
        )
    begin = {"own": estimate(found.start_scores), "judge": estimate(first), "right_of_100": right(before)}
    return {"captions": len(captions), "steps": options.steps, "before": begin, "rows": rows}


def show_refinement(found: Row) -> None:
    """The table of `refinement`."""
    print(f"\nrefinement, {found['captions']} captions, seed 0, {found['steps']} steps\n")
    head = ["z may turn", "e may turn", "own CLIP", "its gain", "judge", "its gain", "right of 100", "s a picture"]
    rows = [
        [
            f"{row['angle']:g}°",
            f"{row['sentence_angle']:g}°",
            *(shown(row[name]) for name in ("own", "own_gain", "judge", "gain")),
            shown(row["right_of_100"], 2),
            row["seconds"],
        ]
        for row in found["rows"]
    ]
    before = found["before"]
    start = ["before", "", shown(before["own"]), "", shown(before["judge"]), "", shown(before["right_of_100"], 2), ""]
    print(table(head, [start, *rows]))


# ---- inversion


def inversion(pipe: Any, judge: Judge, options: argparse.Namespace) -> Row:
    """Pictures that the model drew, with and without their captions; real ones, with one vector e and with several."""
    count = options.pictures
    captions = judge.captions(count)
    drawn = pipe(captions, seed=list(range(FIRST_UNSEEN, FIRST_UNSEEN + count))).images
    sets: list[tuple[str, Sequence[Image.Image], Sequence[str | None], bool]] = [
        ("drawn", drawn, [None] * count, False),
        ("drawn", drawn, captions, False),
    ]
    if REAL.is_dir():
        source = open_source(str(REAL))
        places = np.random.default_rng(0).permutation(len(source))[:count].tolist()
        real = [source.read(place)[0] for place in places]
        sets += [("real", real, [None] * count, False), ("real", real, [None] * count, True)]
    rows = []
    for kind, pictures, told, per_stage in sets:
        found, seconds = seconds_of(
            lambda told=told, pictures=pictures, per_stage=per_stage: [
                invert(pipe, picture, prompt=text, per_stage=per_stage)
                for picture, text in zip(pictures, told, strict=True)
            ]
        )
        alike = clip_cosines(judge.see([one.image for one in found]), judge.see([one.target for one in found]))
        rows.append(
            {
                "pictures": kind,
                "caption": told[0] is not None,
                "per_stage": per_stage,
                "start_psnr": estimate([one.start_psnr for one in found]),
                "psnr": estimate([one.psnr for one in found]),
                "psnr_least": min(one.psnr for one in found),
                "similarity": estimate([one.similarity for one in found]),
                "judge": estimate(alike),
                "seconds": seconds / count,
            }
        )
        print(f"{kind}: {shown(rows[-1]['psnr'], 1)} dB", flush=True)
    return {"pictures": count, "rows": rows}


def show_inversion(found: Row) -> None:
    """The table of `inversion`."""
    print(f"\ninversion, {found['pictures']} pictures of each kind\n")
    head = ["pictures", "e", "begins with", "dB of the best start", "dB", "least", "own CLIP", "judge", "s a picture"]
    rows = [
        [
            row["pictures"],
            "one a stage" if row["per_stage"] else "one",
            "caption" if row["caption"] else "picture",
            shown(row["start_psnr"], 1),
            shown(row["psnr"], 1),
            row["psnr_least"],
            shown(row["similarity"]),
            shown(row["judge"]),
            row["seconds"],
        ]
        for row in found["rows"]
    ]
    print(table(head, rows))


# ---- smoothness


def smoothness(pipe: Any, judge: Judge, options: argparse.Namespace) -> Row:
    """Both walks, the step varied."""
    captions, rows = judge.captions(options.captions), []
    names = ("value", "low", "high", "ratio", "ratio_low", "ratio_high")
    for walk in ("noise", "captions"):
        for epsilon in EPSILONS:
            found = path_length(pipe, captions, walk, pairs=options.pairs, epsilon=epsilon)  # type: ignore[arg-type]
            median = float(np.median(found.values))
            rows.append(
                {"walk": walk, "epsilon": epsilon, "pairs": found.pairs, "clip": found.clip, "seed": 0}
                | {name: getattr(found, name) for name in names}
                | {"median": median}
            )
    return {"captions": len(captions), "rows": rows}


def show_smoothness(found: Row) -> None:
    """The table of `smoothness`."""
    print("\nperceptual path length in the model's own CLIP\n")
    rows = []
    for row in found["rows"]:
        ratio = {end: row[f"ratio_{end}"] for end in ("low", "high")} | {"value": row["ratio"]}
        rows.append([row["walk"], f"{row['epsilon']:g}", row["pairs"], shown(row, 2), row["median"], shown(ratio, 1)])
    print(table(["walk", "step", "pairs", "path length", "median", "by the straight way"], rows))


PARTS: dict[str, tuple[Callable[..., Row], Callable[[Row], None]]] = {
    "reranking": (reranking, show_reranking),
    "refinement": (refinement, show_refinement),
    "inversion": (inversion, show_inversion),
    "smoothness": (smoothness, show_smoothness),
}


def earlier(path: Path, weights: str) -> Row:
    """The parts that were measured before with the same weights."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: found[name] for name in PARTS if name in found and found.get("weights") == weights}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji-64", help="a model that draws emoji")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--captions", type=int, default=400, help="of reranking and walks, 100 or more")
    parser.add_argument("--timed", type=int, default=8, help="captions for the seconds of reranking")
    parser.add_argument("--refined", type=int, default=50, help="captions of refinement")
    parser.add_argument("--steps", type=int, default=20, help="of refinement")
    parser.add_argument("--pictures", type=int, default=5, help="of each kind to invert")
    parser.add_argument("--pairs", type=int, default=250, help="ways of the path length")
    parser.add_argument("--out", type=Path, default=RESULTS / "control.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    about, judge = machine(), Judge()
    pipe = galip.load(given.model, engine="torch", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    weights = weights_of(given.model)
    pipe(judge.captions(16), seed=0)  # what is slow once
    head = {"model": Path(given.model).name, "weights": weights, "threads": 1, "machine": about}
    parts = earlier(given.out, weights)
    for name in given.only:
        measure, show = PARTS[name]
        parts[name], seconds = seconds_of(lambda measure=measure: measure(pipe, judge, given))
        parts[name]["seconds_in_all"] = seconds
        show(parts[name])
        write_result(given.out, head | {part: parts[part] for part in PARTS if part in parts})


if __name__ == "__main__":
    main()
