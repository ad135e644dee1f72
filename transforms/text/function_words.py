"""Function words: those that say nothing about a topic, so that two texts that differ in them alone say the same."""

from __future__ import annotations

from transforms.text.words import STOPWORDS, words

# Folded as ``words`` folds. Question words and negations are left out: they tell texts apart. So are words that are
# content in English ("son", "sin").
_SPANISH = """
a al ante con de del desde e el ella ellas ellos en entre era es esa ese eso esta este esto fue ha hacia han hasta hay
la las lo los me mi muy más o para pero por que se ser si sobre su sus también te tras tu u un una uno unos unas y ya
"""
_RUSSIAN = """
а б бы был была были было быть в во вот все для до его ее её если есть еще ещё же за и из или им их к как ко когда ли
мы на над о об он она они оно от перед по под при с со так также то того тоже у уже через что чтобы эта эти это этот я
который которая которое которые которого которой которых
"""
_ARABIC = """
في من على إلى عن مع هذا هذه ذلك تلك التي الذي الذين أن إن كان كانت قد ثم أو و هو هي هم كل بعض عند حيث بين منذ حتى
"""
FUNCTION_WORDS = STOPWORDS | frozenset(word for text in (_SPANISH, _RUSSIAN, _ARABIC) for word in words(text))

FUNCTION_CHARACTERS = frozenset("的了着吗呢吧啊嗎著")
"""Particles of Chinese, which is written without spaces between words."""

PARTICLES = (
    "에서는 에서의 으로는 에서 에게 까지 부터 으로 이나 에는 에도 은 는 이 가 을 를 의 에 도 만 와 과 로 께서".split()
)
"""Particles of Korean, which follow their word without a space."""
