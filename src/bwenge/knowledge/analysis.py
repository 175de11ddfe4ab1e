"""From text to BM25 terms: folded, without stop words, stemmed where a stemmer is kept (English, French)."""

import functools
import re
import unicodedata
from collections.abc import Set as AbstractSet
from typing import Final

import Stemmer

_WORD: Final = re.compile(r"[^\W_]+")
MAX_TERM_CHARACTERS: Final = 64

_STEMMERS: Final = {"en": "english", "fr": "french"}

_STOP_WORDS: Final = {
    "en": frozenset(
        "a about above after again against all am an and any are as at be because been before being below between both "
        "but by can could did do does doing down during each few for from further had has have having he her here hers "
        "him his how i if in into is it its itself just me more most my no nor not of off on once only or other our "
        "ours out over own s same she should so some such t than that the their theirs them then there these they this "
        "those through to too under until up very was we were what when where which while who whom why will with would "
        "you your yours".split()
    ),
    "fr": frozenset(
        "a ai au aux avec c ce ces cet cette d dans de des du elle en es est et eu il ils j je l la le les leur leurs "
        "lui m ma mais me meme mes moi mon n ne nos notre nous on ont ou par pas pour qu quand que quel quelle quelles "
        "quels qui s sa sans se ses si son sont sur t ta te tes toi ton tu un une vos votre vous y".split()
    ),
    "rw": frozenset(
        "ni na no nta cyangwa kandi ariko ko ku mu kuri muri iyo uyu aba ibi iki ubu uko ngo maze nk nka n y wa ya za "
        "cya bya rwa ba by cy".split()
    ),
    "sw": frozenset(
        "na ni ya wa za la cha vya kwa katika kama au lakini hii hiyo huyu hao hizo ile yule wale kuwa si je pia tu "
        "bila hadi mwa pa ambayo ambao".split()
    ),
}


def analyse(text: str, language: str) -> list[str]:
    """The terms of a text in reading order, as indexed for its language."""
    return _stemmed([word for word in _words(text) if word not in _stop_words(language)], language)


def analyse_query(
    text: str, *, language: str, main_languages: AbstractSet[str], languages: AbstractSet[str]
) -> dict[str, str]:
    """What to look for in postings: each form of a question's words that any of the material's languages may index.

    The value is the word whose form the key is, to be counted as one term with its other forms (as Lucene's
    SynonymQuery does): the form of a language in which few passages are would else be taken for a rare word.

    Words that say nothing in the question's own language are left out. So are, in languages that only some passages
    are taken to be in, those that say nothing in a language of whole sources: a passage in another language than
    its source is as often one whose language was mistaken, and only there would they count for anything.

    `language` is the question's, `main_languages` are those in which most of a source is, and `languages` those of all
    passages.
    """
    words = [word for word in _words(text) if word not in _stop_words(language)]
    plain = [word for word in words if not any(word in _stop_words(main) for main in main_languages)]
    names = dict(zip(words, _stemmed(words, language), strict=True))
    forms: dict[str, str] = {}
    for other in sorted(main_languages | languages | {language}):
        asked = [word for word in (words if other in main_languages else plain) if word not in _stop_words(other)]
        for word, form in zip(asked, _stemmed(asked, other), strict=True):
            forms.setdefault(form, names[word])
    return forms


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(fold(text)) if len(word) <= MAX_TERM_CHARACTERS]


def _stop_words(language: str) -> frozenset[str]:
    return _STOP_WORDS.get(language, frozenset())


def _stemmed(words: list[str], language: str) -> list[str]:
    stemmer = _stemmer(language)
    return words if stemmer is None else stemmer.stemWords(words)


def fold(text: str) -> str:
    """Lower case without diacritics, so that a learner's keyboard does not decide what is found."""
    # Decomposed first: the letters of formulas become ordinary ones, and only then have a lower case.
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character)).casefold()


@functools.cache
def _stemmer(language: str) -> "Stemmer.Stemmer | None":
    name = _STEMMERS.get(language)
    # The stemmer's own cache is not safe between threads; without it, stemming is still faster than folding.
    return None if name is None else Stemmer.Stemmer(name, 0)
