"""The usual protocols of the literature, and the one that is all options."""

from galip.evaluation.protocols.schema import Protocol

_BY_CLIP = ("fd_clip", "mmd_clip", "clip_score", "r_precision", "diversity")

STANDARD = (
    Protocol(
        name="fid30k_coco256",
        about="30,000 captions of COCO val2014, one for each of 30,000 chosen images, which are the reference too; "
        "256 px, 8-bit; Inception as in the original FID code. For zero-shot and in-domain models.",
        split="COCO val2014 (`galip data prepare coco`, part validation)",
        records=40504,
        images=30000,
        resolution=256,
        metrics=("fid", "kid", "prdc_inception", *_BY_CLIP),
    ),
    Protocol(
        name="cub",
        about="Twelve passes over CUB's test images, one caption chosen for each image and pass: 35,196, compared with "
        "the test images by Inception as in the original FID code. The published 10.08 is released_cub's.",
        split="CUB-200-2011 by classes (`galip data prepare cub --split-lists`, part test)",
        records=2933,
        captions="passes",
        passes=12,
        resolution=256,
        reference="all",
        metrics=("fid", "kid", *_BY_CLIP),
    ),
)

IMAGES = Protocol(
    name="images",
    about="Two folders of images without captions, every image of both, each brought from its own size to Inception's "
    "299 px as pytorch-fid does, or with --resize clean as clean-fid does: galip evaluate GENERATED REAL.",
    captions="none",
    quantise=False,
    inception_resize="pytorch",
    reference="all",
    metrics=("fid", "kid"),
)

CUSTOM = Protocol(
    name="custom",
    about="All by options: every record of the data once, at the model's own size, unless told otherwise.",
    metrics=("fid", "kid", *_BY_CLIP),
)
