"""Captions to compare a tokenizer's port with: ordinary, odd, and noise made of pieces that mean something."""

from __future__ import annotations

import itertools
import random

ORDINARY = [
    f"{style}{colour} {thing}"
    for style, colour, thing in itertools.product(
        ["", "3d emoji of ", "flat emoji of a ", "google emoji of the "],
        ["red", "light-blue", "dark green", "two yellow"],
        ["hearts", "sleepy cat", "person running", "o'clock", "slice of pizza, with cheese", "flag: Côte d’Ivoire"],
    )
]

ODD = [
    "",
    "   \t ",
    "A RED HEART",
    "a  red\theart\n",
    "it's the cat's, they'll've said; I'd we're you'd 'tis O'Neil",
    "12 000 sheep, 3.14, 2nd, x2, ½ and ² and Ⅷ",
    "!?...;;--__##",
    "a <|endoftext|> cat",
    "a <|ENDOFTEXT|> cat <|startoftext|>x<|startoftext|>",
    "<|endoftext|",
    "tom &amp; jerry",
    "&lt;b&gt; a &amp;lt; b",
    "&amp;amp;amp; three deep",
    "&copy 2023 &notit; &notin &AMP; &EACUTE; &NTILDE; &nTILDE; &SZLIG;",
    "&#65;&#x42;&#67 &#0; &#128; &#150; &#xD800; &#x110000; &#99999999999; &#59; &#12ab; &#xfdd0; &#1114111;",
    "&#27;[31mred&#27;[0m",
    "&hearts; &hearts &unknown; & &; &a &#; &#x; a&b",
    "x < y &amp; z",
    "line one\nline < two &eacute;\nline &eacute; three",
    "first &EACUTE;\nsecond < &EACUTE;\nthird &EACUTE;",
    "“curly” ‘quotes’ ʼn ŉ „low“",
    "ﬂuﬃeﬆ Ĳ ĳ ǆ",
    "ＬＯＵＤ　ＮＯＩＳＥＳ　ｶﾞ ﾊﾟ １２",
    "café cafe\u0301 ÅÅ \u212b",
    "naïve Übermut ΣΊΣΥΦΟΣ Σ ςΣ İstanbul ı ǅ ẞ ß ﬀ",
    "красное сердце",
    "赤いハート ❤️ 红心 빨간 하트",
    "👩‍👩‍👧‍👦 👍🏽 🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f 🇫🇷",
    "قلب أحمر לב אדום हृदय ใจแดง",
    "a\u200bzero\u200dwidth\u2060joiner\ufeff",
    "no-break\u00a0space\u2003em\u3000wide\u2028line\u2029paragraph\u0085next",
    "soft\u00adhyphen \ufffc object \ufffd replaced",
    "a\u0007bell",
    "nul \x00 here",
    "escape \x1b[31m red",
    "delete \x7f",
    "private \ue000 use \U0010ffff last",
    "yellow star " * 40,
    "é" * 80,
    "supercalifragilisticexpialidocious" * 3,
    "a" * 300,
]

BROKEN = ["sÃ³", "voilÃ le travail", "l’humanitÃ©", "â€œquotedâ€\x9d", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "c1 \x85 and \x93quotes\x94"]
"""Text in a broken encoding, which ftfy repairs."""

_PIECES = [
    *"a B the red heart 's 'LL don't 7 42 ½ ٣ é ñ Œ ß ΑΣ Я ё 字".split(" "),
    *"カ 한 ❤️ 🦊 👩‍🚀 \u0301 \u0327 ﬁ Ａ ﾊﾟ &amp; &eacute; &#233; &#x1F600; &lt".split(" "),
    *"& < > ; # <|endoftext|> <|StartOfText|> |> “ ’ — … € © ° √ │".split(" "),
    *"\u00a0 \u2009 \u3000 \n \t \r\n _ - / \\ ¿ !! . , \u200d \ufeff \u0378".split(" "),
]


def noisy(count: int) -> list[str]:
    """Captions of random pieces, the same every time."""
    chance = random.Random(0)
    return [
        "".join(chance.choice(_PIECES) + chance.choice(["", "", " "]) for _ in range(chance.randint(1, 14)))
        for _ in range(count)
    ]


CAPTIONS = [*ORDINARY, *ODD, *BROKEN, *noisy(400)]
