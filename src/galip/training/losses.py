"""GALIP's objective (paper, section 3.4): a matching-aware hinge, a gradient penalty on CLIP features, similarity.

    L_D = mean relu(1 - D(C(x), e)) + 1/2 mean relu(1 + D(C(G(z,e)), e)) + 1/2 mean relu(1 + D(C(x), e_mis)) + penalty
    L_G = - mean D(C(G(z,e)), e) - lambda * mean cos(CLIP_image(G(z,e)), e)

x is a real image with sentence vector e; e_mis is another image's; C are the tapped CLIP features. `discriminator_loss`
and `generator_loss` are these two lines; what stands below them are their parts. All losses are means over the batch.

A run that has feature networks F (`model.feature_networks`) adds the mean over their heads H, and over the places of
their maps, of the same hinge:

    L_D + mean relu(1 - H(F(x), e)) + 1/2 mean relu(1 + H(F(G(z,e)), e)) + 1/2 mean relu(1 + H(F(x), e_mis))
    L_G - w * mean H(F(G(z,e)), e)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from galip.models.discriminator import Assessed
from galip.models.feature_heads import FeatureHeads
from galip.training.config import LossConfig
from galip.training.distances import energy_distances, pyramid_l1
from galip.training.precision import Precision
from galip.training.ramps import Ramps
from galip.training.tensors import Bundle

PenaltyForm = Literal["released", "paper"]

# The paper's form takes a square root, whose gradient at 0 is infinite.
_PAPER_EPSILON = 1e-12


@dataclass(frozen=True)
class DiscriminatorTerms(Bundle):
    """L_D and its parts, scalars by the names of the log; `score_*` are D's mean logits."""

    loss_d: Tensor
    d_real: Tensor
    d_fake: Tensor
    d_mismatch: Tensor
    penalty: Tensor
    score_real: Tensor
    score_fake: Tensor
    score_mismatch: Tensor
    r1: Tensor | None = None
    d_heads: Tensor | None = None


@dataclass(frozen=True)
class GeneratorTerms(Bundle):
    """L_G and its parts, scalars by the names of the log; None: the objective does not have it."""

    loss_g: Tensor
    adversarial: Tensor | None = None
    similarity: Tensor | None = None
    similarity_second: Tensor | None = None
    paired: Tensor | None = None
    spread: Tensor | None = None
    heads: Tensor | None = None


@dataclass(frozen=True)
class Views(Bundle):
    """What the discriminators see of B images.

    Attributes:
        taps: C(x), tapped CLIP features, each [B, width, g, g].
        maps: F(x), maps of the feature networks, each [B, C, h, w]; empty where the run has none.
        pixels: the images [B, 3, S, S] of which `taps` has been computed with gradients; None: with none.
    """

    taps: list[Tensor]
    maps: list[Tensor]
    pixels: Tensor | None = None


@dataclass(frozen=True)
class FakeImages(Bundle):
    """Generated images of B captions, and what CLIP sees of them.

    Attributes:
        images: G(z, e), [B, 3, S, S], laid on its background where it has an alpha channel.
        augmented: what CLIP is shown of them, [B, 3, S, S].
        taps: C(G(z, e)), tapped CLIP features, each [B, width, g, g].
        vectors: CLIP_image(G(z, e)), [B, embed_dim].
        maps: F(G(z, e)), maps of the feature networks, each [B, C, h, w]; empty where the run has none.
    """

    images: Tensor
    augmented: Tensor
    taps: list[Tensor]
    vectors: Tensor
    maps: list[Tensor] = field(default_factory=list)

    def views(self) -> Views:
        """What the discriminators see of them."""
        return Views(self.taps, self.maps)


def discriminator_loss(
    D: Assessed,
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    e: Tensor,
    e_mis: Tensor | None,
    options: LossConfig,
    precision: Precision | None = None,
    pixels: Tensor | None = None,
) -> DiscriminatorTerms:
    """L_D of B images.

    Args:
        D: Mate-D, or another.
        real, fake: C(x) and C(G(z, e)), tapped features, each [B, width, g, g]; the ViT before them is not
            differentiated.
        e: sentence vectors [B, cond_dim].
        e_mis: those of other captions; None where the whole batch has one caption: the term is then left out.
        options: weights of the terms.
        precision: of D on fakes; everything that is differentiated twice is computed in fp32.
        pixels: x itself, [B, 3, S, S], of which `real` has been computed with gradients: the penalties are then with
            respect to it instead of C(x).
    """
    precision = precision or Precision(e.device.type)
    penalised = options.penalty_k > 0 or options.r1 > 0
    if pixels is None:
        real = [tap.detach().float().requires_grad_(penalised) for tap in real]
    e_real = e.detach().clone().requires_grad_(penalised)
    zero = torch.zeros((), device=e.device)
    penalty, r1 = zero, zero

    with precision.full():
        features = D.features(real)
        scores_real = D.assess(features, e_real)
        scores_mismatch = None if e_mis is None else D.assess(features, e_mis)
        if penalised:
            penalty, r1 = _penalties(scores_real, real if pixels is None else [pixels], e_real, options)
    with precision.mixed():
        scores_fake = D(fake, e).float()

    d_real = hinge_real(scores_real)
    d_fake = hinge_fake(scores_fake)
    d_mismatch = zero if scores_mismatch is None else hinge_fake(scores_mismatch)
    return DiscriminatorTerms(
        loss_d=d_real + (d_fake / 2 + options.mismatch * d_mismatch) + penalty + r1,
        d_real=d_real,
        d_fake=d_fake,
        d_mismatch=d_mismatch,
        penalty=penalty,
        score_real=scores_real.mean(),
        score_fake=scores_fake.mean(),
        score_mismatch=zero if scores_mismatch is None else scores_mismatch.mean(),
        r1=r1 if options.r1 else None,
    )


def generator_loss(
    D: Assessed,
    fake: FakeImages,
    e: Tensor,
    e_clip: Tensor,
    options: LossConfig,
    precision: Precision | None = None,
    second_pair: tuple[Tensor, Tensor] | None = None,
    paired_with: tuple[Tensor, Tensor] | None = None,
    heads: FeatureHeads | None = None,
    ramps: Ramps | None = None,
) -> GeneratorTerms:
    """L_G of B images.

    Args:
        D: Mate-D, whose weights need no gradient now.
        fake: the generated images and their features.
        e: sentence vectors [B, cond_dim].
        e_clip: CLIP's vectors of the captions [B, embed_dim]; e itself unless a T5 conditions.
        options: weights of the terms.
        precision: of D.
        second_pair: a second CLIP's vectors of the fakes and of their captions, for `options.similarity_second`.
        paired_with: for `options.paired`, the real images of the same captions and G(z', e) of other noise z', both
            [B, 3, S, S] in [-1, 1].
        heads: H, which judge `fake.maps`.
        ramps: what some weights are multiplied with; None: 1.
    """
    precision = precision or Precision(e.device.type)
    with precision.mixed():
        scores = D(fake.taps, e).float()
    adversarial = -scores.mean()
    cosine = similarity(fake.vectors, e_clip)
    loss = adversarial - options.similarity * (cosine if ramps is None else ramps.similarity * cosine)

    second = paired = spread = of_heads = None
    if heads is not None:
        with precision.mixed():
            of_heads = -_mean([logits.float().mean() for logits in heads(fake.maps, e)])
        loss = loss + options.heads * (of_heads if ramps is None else ramps.heads * of_heads)
    if second_pair is not None:
        second = similarity(*second_pair)
        loss = loss - options.similarity_second * second
    if paired_with is not None:
        paired, spread = energy_distances(fake.images, *paired_with)
        loss = loss + options.paired * (paired - spread)
    return GeneratorTerms(loss, adversarial, cosine, second, paired, spread, of_heads)


def reconstruction_loss(fake: Tensor, real: Tensor) -> GeneratorTerms:
    """L_G of the stage before anything adversarial: the distance to the caption's image.

    Args:
        fake: generated images [B, 3, S, S].
        real: the real images of the same captions.
    """
    distance = pyramid_l1(fake, real)
    return GeneratorTerms(distance, paired=distance)


# ---- heads on feature networks


def with_heads(
    terms: DiscriminatorTerms,
    H: FeatureHeads,
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    e: Tensor,
    e_mis: Tensor | None,
    precision: Precision | None = None,
) -> DiscriminatorTerms:
    """L_D with the heads' hinge.

    Args:
        terms: L_D of Mate-D.
        H: the heads.
        real, fake: F(x) and F(G(z, e)), maps of the feature networks, each [B, C, h, w], not differentiated.
        e, e_mis: see `discriminator_loss`.
        precision: of the heads.
    """
    precision = precision or Precision(e.device.type)
    with precision.mixed():
        own, generated = H(real, e), H(fake, e)
        mismatching = [] if e_mis is None else H(real, e_mis)
    loss = _mean([hinge_real(logits.float()) for logits in own])
    wrong = [_mean([hinge_fake(logits.float()) for logits in found]) for found in (generated, mismatching) if found]
    loss = loss + torch.stack(wrong).sum() / 2
    return replace(terms, loss_d=terms.loss_d + loss, d_heads=loss)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


# ---- the hinge


def hinge_real(logits: Tensor) -> Tensor:
    """`mean relu(1 - D)` of the logits [B, ...] of real images with their own captions."""
    return F.relu(1 - logits).mean()


def hinge_fake(logits: Tensor) -> Tensor:
    """`mean relu(1 + D)` of the logits [B, ...] of generated images, or of real ones with another image's caption."""
    return F.relu(1 + logits).mean()


def mismatched(caption_ids: Sequence[int]) -> list[int]:
    """Whose caption each image is judged with in the mismatch term: row i gets row i+1's, cyclically.

    A neighbour with the identical caption would be a match, so the next row with another caption is taken.

    Args:
        caption_ids: B numbers that are equal where captions are.

    Returns:
        B row numbers.

    Raises:
        ValueError: all captions are the same, so that no mismatch exists.
    """
    count = len(caption_ids)
    rows = []
    for i in range(count):
        other = next((j % count for j in range(i + 1, i + count) if caption_ids[j % count] != caption_ids[i]), None)
        if other is None:
            raise ValueError(
                f"a batch of {count} with one and the same caption has no mismatched pair; "
                "use a batch of at least two images with different captions"
            )
        rows.append(other)
    return rows


# ---- penalties


def matching_aware_penalty(
    logits: Tensor,
    taps: Sequence[Tensor],
    e: Tensor,
    k: float = 2.0,
    p: float = 6.0,
    form: PenaltyForm = "released",
) -> Tensor:
    """Matching-aware zero-centred gradient penalty on real, matching pairs.

    `"released"`: `k * (|g_C|^2 + |g_e|^2)^(p/2)`, as the authors' code has it, without a square root.
    `"paper"`: `k * (|g_C| + |g_e|)^p`. g_C is the gradient over all taps flattened together, g_e over the sentence
    vector, both of the image's own logit. Call it with autocast off and everything in fp32.

    Args:
        logits: [B], computed from `taps` and `e`.
        taps: tensors [B, C, g, g] that require gradients; nothing before them is differentiated.
        e: [B, cond_dim], requires gradients.
        k: weight.
        p: power.
        form: which formula.

    Returns:
        Scalar, mean over the batch; differentiable with respect to the discriminator's weights.

    Raises:
        ValueError: `form` is unknown.
    """
    return penalty_of(*squared_gradients(logits, taps, e), k, p, form)


def squared_gradients(logits: Tensor, taps: Sequence[Tensor], e: Tensor) -> tuple[Tensor, Tensor]:
    """|g_C|^2 over all taps together and |g_e|^2 of each image's own logit, both [B], differentiable once more.

    Args:
        logits: [B], computed from `taps` and `e`.
        taps: tensors [B, C, g, g] that require gradients.
        e: [B, cond_dim], requires gradients.
    """
    gradients = torch.autograd.grad(logits.sum(), [*taps, e], create_graph=True)
    *of_taps, of_e = (gradient.flatten(1).square().sum(1) for gradient in gradients)  # each [B]
    return torch.stack(of_taps).sum(0), of_e


def penalty_of(squared_c: Tensor, squared_e: Tensor, k: float, p: float, form: PenaltyForm) -> Tensor:
    """`matching_aware_penalty` from gradients that are there already, as `squared_gradients` gives them."""
    if form == "released":
        return (k * (squared_c + squared_e) ** (p / 2)).mean()
    if form == "paper":
        norm_c, norm_e = (squared_c + _PAPER_EPSILON).sqrt(), (squared_e + _PAPER_EPSILON).sqrt()
        return (k * (norm_c + norm_e) ** p).mean()
    raise ValueError(f"form is {form!r}; use 'released' or 'paper'")


def r1_penalty(squared_c: Tensor, gamma: float) -> Tensor:
    """R1 on the taps, `gamma/2 * |g_C|^2` of real images (Mescheder et al., 2018); `squared_c` is [B]."""
    return gamma / 2 * squared_c.mean()


def _penalties(logits: Tensor, taps: Sequence[Tensor], e: Tensor, options: LossConfig) -> tuple[Tensor, Tensor]:
    """The gradient penalty and R1, of one pair of gradients; 0 where the weight is."""
    squared_c, squared_e = squared_gradients(logits, taps, e)
    penalty = r1 = torch.zeros((), device=e.device)
    if options.penalty_k:
        penalty = penalty_of(squared_c, squared_e, options.penalty_k, options.penalty_p, options.penalty_form)
    if options.r1:
        r1 = r1_penalty(squared_c, options.r1)
    return penalty, r1


# ---- similarity


def similarity(image_vectors: Tensor, e: Tensor) -> Tensor:
    """Mean cosine between CLIP's vectors of the generated images and of their captions, both [B, embed_dim]."""
    return F.cosine_similarity(image_vectors.float(), e.float(), dim=1).mean()
