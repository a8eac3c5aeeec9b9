"""Protocols of the bundled models, which bring their captions and references along."""

from galip.evaluation.protocols.schema import Protocol

EMOJI = (
    Protocol(
        name="emoji64",
        about="The bundled model's: captions of emoji that it was trained on and of ones that it was not, scored by a "
        "judge that took part in no training. Reference features come with the package.",
        captions="listed",
        resolution=64,
        reference="bundle",
        bundle="emoji64",
        suites=("emoji",),
        metrics=("fd_judge", "mmd_judge", "prdc_judge", "clip_score_judge", "r_precision_judge", "diversity_judge"),
    ),
)
