"""A byte-pair tokenizer in CLIP's own format, learnt from captions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: Sequence[str], size: int, context: int) -> CLIPTokenizer:
    """Learn a vocabulary.

    Args:
        captions: what it is learnt from.
        size: entries of the vocabulary at most, plus those that make every byte writable.
        context: tokens of the longest caption.
    """
    reference = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = reference.backend_tokenizer.normalizer
    learner.pre_tokenizer = reference.backend_tokenizer.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())  # the 256 symbols that byte-level pairs are made of
    trainer = trainers.BpeTrainer(
        vocab_size=max(size - 2, 2 * len(alphabet)),
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    state = json.loads(learner.to_str())["model"]
    vocab = dict(sorted(state["vocab"].items(), key=lambda item: item[1]))
    for symbol in alphabet:  # every byte can end a word too, so nothing is ever unknown
        vocab.setdefault(symbol + "</w>", len(vocab))
    for special in (_BOS, _EOS):
        vocab[special] = len(vocab)
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in state["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=context)
