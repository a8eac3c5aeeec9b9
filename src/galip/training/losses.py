"""GALIP's objective (paper, section 3.4): a matching-aware hinge, a gradient penalty on CLIP features, similarity.

    L_D = mean relu(1 - D(C(x), e)) + 1/2 mean relu(1 + D(C(G(z,e)), e)) + 1/2 mean relu(1 + D(C(x), e_mis)) + penalty
    L_G = - mean D(C(G(z,e)), e) - lambda * mean cos(CLIP_image(G(z,e)), e)

x is a real picture with sentence vector e; e_mis is another picture's; C are the tapped CLIP features. Every function
here takes tensors and answers one scalar, the mean over the batch, that can be differentiated.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PenaltyForm = Literal["released", "paper"]

# The paper's form takes a square root, whose gradient at 0 is infinite.
_PAPER_EPSILON = 1e-12

_PYRAMID = 4


def hinge_real(logits: Tensor) -> Tensor:
    """`mean relu(1 - D)` of the logits [B] of real pictures with their own captions."""
    return F.relu(1 - logits).mean()


def hinge_fake(logits: Tensor) -> Tensor:
    """`mean relu(1 + D)` of the logits [B] of drawn pictures, or of real ones with another picture's caption."""
    return F.relu(1 + logits).mean()


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
    vector, both of the picture's own logit. Call it with autocast off and everything in fp32.

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
    """|g_C|^2 over all taps together and |g_e|^2 of each picture's own logit, both [B], differentiable once more.

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


def r1(squared_c: Tensor, gamma: float) -> Tensor:
    """R1 on the taps, `gamma/2 * |g_C|^2` of real pictures (Mescheder et al., 2018); `squared_c` is [B]."""
    return gamma / 2 * squared_c.mean()


def adversarial(logits: Tensor) -> Tensor:
    """`- mean D` of the logits [B] of drawn pictures: the generator's adversarial loss."""
    return -logits.mean()


def similarity(image_vectors: Tensor, e: Tensor) -> Tensor:
    """Mean cosine between CLIP's vectors of the drawn pictures and of their captions, both [B, embed_dim]."""
    return F.cosine_similarity(image_vectors.float(), e.float(), dim=1).mean()


def distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean L1 between pictures, both [B, 3, S, S], over a pyramid.

    The mean over the pictures themselves and their averages over squares of 2, 4 and 8 pixels (as far as S can be
    divided): the coarse levels are about layout and colour and leave room for detail.
    """
    difference = one.float() - other.float()
    levels = [difference.abs().mean()]
    while len(levels) < _PYRAMID and difference.shape[-1] % 2 == 0:
        difference = F.avg_pool2d(difference, 2)
        levels.append(difference.abs().mean())
    return torch.stack(levels).mean()


def paired(drawn: Tensor, real: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
    """How far drawn pictures are from the real one of their caption, and from another drawn one of it.

    With X and X' drawn independently, `E distance(X, x) - 1/2 E distance(X, X')` is the energy score (Gneiting and
    Raftery, "Strictly Proper Scoring Rules", 2007): least, for each pixel of each level, where drawn pictures are
    distributed as real ones are. The first term alone, as in Isola et al., "Image-to-Image Translation with Conditional
    Adversarial Networks", 2017, is least where every noise gives the median. By symmetry the first minus the second,
    with X' held fixed, has the gradient of that score.

    Args:
        drawn: X, [B, 3, S, S].
        real: x, the real pictures of the same captions.
        again: X', pictures of the same captions from other noise, not differentiated.

    Returns:
        The two distances.
    """
    return distance(drawn, real), distance(drawn, again.detach())


def mismatched(caption_ids: Sequence[int]) -> list[int]:
    """Whose caption each picture is judged with in the mismatch term: row i gets row i+1's, cyclically.

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
                "use a batch of at least two pictures with different captions"
            )
        rows.append(other)
    return rows
