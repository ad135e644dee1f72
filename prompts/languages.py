"""Languages that queries are written in: how a prompt names one, and the example that shows what such a query is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prompts.template import Template

_ENGLISH = "in English, whatever the language of the evidence"
_LENGTH = "has 5 to 30 words. No query, not even a base query, has fewer than 4."
_EXAMPLE = "why could nobody get beyond the end of the line after sailors went months without wages"


@dataclass(frozen=True, slots=True)
class Language:
    """A language by its English name, how long a query of it is, and the prompt's example query in it.

    Where a language has no spaces between words, lengths are in characters.
    """

    name: str
    example: str
    length: str = "5 to 30 words. No query, not even a base query, has fewer than 4 words"


LANGUAGES: Mapping[str, Language] = {
    "en": Language("English", _EXAMPLE),
    "ar": Language("Arabic", "لماذا لم يتمكن أحد من تجاوز نهاية الخط بعد أشهر عمل فيها البحارة بلا أجور"),
    "es": Language(
        "Spanish", "por qué nadie pudo pasar del final de la línea tras meses en que los marineros no cobraron"
    ),
    "ko": Language("Korean", "선원들이 몇 달째 임금을 받지 못한 뒤 아무도 종점 너머로 갈 수 없었던 이유"),
    "ru": Language(
        "Russian", "почему никто не мог уехать дальше конца линии, когда моряки месяцами работали без зарплаты"
    ),
    "zh": Language(
        "Chinese",
        "船员几个月领不到工资之后，为什么没有人能到达终点站以外的地方",
        "8 to 60 characters. No query, not even a base query, has fewer than 6 characters",
    ),
}
"""ISO 639 code -> the language; the six of MultiVENT 2.0 (arXiv 2410.11619)."""


def in_language(template: Template, code: str) -> Template:
    """A prompt that asks for English, asking for another language; its version is another one, too.

    Raises:
        ValueError: the prompt does not say that it asks for English.
    """
    if code == "en":
        return template
    if _ENGLISH not in template.source:
        raise ValueError(f"the prompt {template.name} must say '{_ENGLISH}', which another language takes the place of")
    language = LANGUAGES[code]
    wanted = (
        f"in {language.name}, whatever the language of the evidence; names are written as people write them who search "
        f"in {language.name}; the rationale is in English"
    )
    source = template.source.replace(_ENGLISH, wanted)
    source = source.replace(f"and {_LENGTH}", f"and has {language.length}.")
    return Template(template.name, source.replace(_EXAMPLE, language.example))
