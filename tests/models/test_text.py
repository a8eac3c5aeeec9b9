import warnings

import pytest
import torch
from models import tiny
from torch.testing import assert_close

from galip.models import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder, measure_scale

CAPTIONS = ["a red heart", "a sleepy cat in the rain", "two birds", "A RED HEART of the kitten", "cat"]
LEGACY_EOS = 2


def clip_encoder(legacy: bool = False) -> CLIPSentenceEncoder:
    tokenizer = tiny.tokenizer()
    end = LEGACY_EOS if legacy else tokenizer.eos_token_id
    return CLIPSentenceEncoder(tokenizer, tiny.clip_text_model(end, len(tokenizer)))


def t5_encoder(scale: float = 1.0) -> T5SentenceEncoder:
    tokenizer = tiny.tokenizer(start=None)
    return T5SentenceEncoder(tokenizer, tiny.t5_model(len(tokenizer)), scale)


@pytest.fixture(params=["clip", "clip-legacy", "t5"])
def encoder(request):
    return {"clip": clip_encoder, "clip-legacy": lambda: clip_encoder(legacy=True), "t5": t5_encoder}[request.param]()


def test_both_speak_the_protocol(encoder):
    assert isinstance(encoder, SentenceEncoder)
    vectors = encoder.encode(CAPTIONS)
    assert vectors.shape == (5, encoder.dim)
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad
    assert encoder.max_tokens == 16


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("padding", ["pad", "end"])
def test_clip_with_as_many_tokens_as_needed_equals_the_full_context(legacy, padding):
    """Both of transformers' ways to find the end token, and both ways in which CLIPs pad (zero, or the end token)."""
    encoder = clip_encoder(legacy)
    tokenizer = encoder.tokenizer
    tokenizer.pad_token = "<pad>" if padding == "pad" else "<end>"
    full = tokenizer(CAPTIONS, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = encoder.model(**full).text_embeds
    assert_close(encoder.encode(CAPTIONS), expected, atol=1e-5, rtol=1e-5)


def test_clip_runs_no_more_tokens_than_the_longest_caption_has():
    encoder, lengths = clip_encoder(), []
    encoder.model.text_model.embeddings.register_forward_hook(lambda *out: lengths.append(out[-1].shape[1]))
    encoder.encode(["cat", "two birds"])
    assert lengths == [4]


def test_t5_is_the_mean_over_true_tokens_times_the_scale():
    encoder = t5_encoder(scale=3.0)
    for caption, vector in zip(CAPTIONS, encoder.encode(CAPTIONS), strict=True):
        ids = torch.tensor([encoder.tokenizer(caption)["input_ids"]])
        hidden = encoder.model(input_ids=ids).last_hidden_state
        assert_close(vector, 3.0 * hidden[0].mean(dim=0), atol=1e-5, rtol=1e-5)


def test_measured_scale_gives_the_wanted_norm_whatever_the_present_one():
    encoder = t5_encoder(scale=0.3)
    scale = measure_scale(encoder, CAPTIONS)
    encoder.scale = scale
    assert encoder.encode(CAPTIONS).norm(dim=1).mean().item() == pytest.approx(10.0, rel=1e-5)
    assert measure_scale(encoder, CAPTIONS) == pytest.approx(scale, rel=1e-5)


def test_a_vector_does_not_depend_on_batches_order_or_company(encoder):
    together = encoder.encode(CAPTIONS)
    assert_close(encoder.encode(CAPTIONS, batch_size=2), together, atol=1e-5, rtol=1e-5)
    assert_close(encoder.encode(CAPTIONS[::-1]).flip(0), together, atol=1e-5, rtol=1e-5)
    assert_close(encoder.encode(CAPTIONS[1:2])[0], together[1], atol=1e-5, rtol=1e-5)


def test_different_captions_have_different_vectors(encoder):
    distances = torch.cdist(encoder.encode(CAPTIONS), encoder.encode(CAPTIONS)) + 10 * torch.eye(len(CAPTIONS))
    assert distances.min() > 1e-3


def test_identical_captions_are_encoded_once_and_answered_each(encoder):
    rows, network = [], encoder.vectors
    encoder.vectors = lambda ids, last: rows.append(len(ids)) or network(ids, last)
    vectors = encoder.encode(["cat", "two birds", "cat", "cat"])
    assert rows == [2]
    assert torch.equal(vectors[0], vectors[2])
    assert torch.equal(vectors[0], vectors[3])
    assert not torch.equal(vectors[0], vectors[1])


def test_a_caption_too_long_is_truncated_with_a_warning_that_names_it(encoder):
    specials = len(encoder.tokenizer("")["input_ids"])
    fitting = " ".join(["cat"] * (16 - specials))
    with pytest.warns(UserWarning, match=r"more than 16 tokens and is truncated: 'cat cat .*\.\.\.'") as caught:
        vectors = encoder.encode(["two birds", fitting + " rain" * 3000])
    assert len(caught) == 1
    assert len(str(caught[0].message)) < 150
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one that just fits brings no warning
        assert_close(vectors[1], encoder.encode([fitting])[0], atol=1e-5, rtol=1e-5)


def test_an_empty_caption_and_no_caption(encoder):
    assert encoder.encode([""]).isfinite().all()
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_the_network_is_frozen_and_in_eval_mode(encoder):
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_vectors_are_fp32_whatever_the_network_is(encoder):
    exact = encoder.encode(CAPTIONS)
    encoder.model.to(torch.bfloat16)
    vectors = encoder.encode(CAPTIONS)
    assert vectors.dtype == torch.float32
    assert torch.cosine_similarity(vectors, exact).min() > 0.99


def test_vectors_can_enter_a_differentiated_computation(encoder):
    weight = torch.ones(encoder.dim, requires_grad=True)
    (encoder.encode(CAPTIONS) * weight).sum().backward()
    assert weight.grad.any()


def test_wrong_captions_are_refused(encoder):
    with pytest.raises(ValueError, match="captions is 'a red heart'; give a list of strings"):
        encoder.encode("a red heart")
    with pytest.raises(ValueError, match="give a list of strings"):
        encoder.encode(["cat", 3])
    with pytest.raises(ValueError, match="batch_size is 0"):
        encoder.encode(["cat"], batch_size=0)


@pytest.mark.parametrize("end", [LEGACY_EOS, 5])
def test_a_tokenizer_of_another_clip_is_refused(end):
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<later>"])  # now the end token is no longer the highest id
    with pytest.raises(ValueError, match=f"eos_token_id {end}"):
        CLIPSentenceEncoder(tokenizer, tiny.clip_text_model(end, len(tokenizer)))


def test_impossible_scales_are_refused():
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale is"):
            t5_encoder(scale)
    with pytest.raises(ValueError, match="captions is empty"):
        measure_scale(t5_encoder(), [])
    with pytest.raises(ValueError, match="target_norm"):
        measure_scale(t5_encoder(), CAPTIONS, target_norm=0)
