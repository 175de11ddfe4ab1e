"""Words that carry meaning, compared across inflection, accents and slips of the pen."""

import functools
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import Stemmer

_WORD = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_STEMMERS: Final = {"en": "english", "fr": "french"}
_SIMILAR = 0.6
"""Least Dice coefficient of two words' trigrams at which one stands for the other: Amerika and America, or a slip."""
_SHORTEST_SIMILAR = 5

# Words of grammar and words that ask, folded as `fold` does: they say nothing of what a question is about.
_STOP_WORDS: Final = frozenset(
    # English
    "a about after all also am an and any are as at be because been before being between both but by can could did do "
    "does doing done during each few for from further get had has have having he her here hers him his how i if in "
    "into is it its itself just like many may me might more most much must my no nor not of off on once only or other "
    "our out over own please same shall she should so some such tell than that the their them then there these they "
    "this those through to too under until up upon us very was we were what when where whether which while who whom "
    "whose why will with would you your explain describe mean means called name "
    # French
    "au aux avec ce ces cet cette ceux chez comme comment combien dans de des du elle elles en est et etait etaient "
    "ete etre eu fait il ils je la le les leur leurs lors lui ma mais me meme mes mon ne nos notre nous on ont ou "
    "par pas peut plus pour pourquoi quand que quel quelle quelles quels qui quoi sa sans se ses si son sont sous sur "
    "ta te tes toi ton tous tout toute toutes tres tu un une vos votre vous y "
    # Kinyarwanda and Kirundi
    "aba abo aho ahubwo ako aka ari ariko ayo aya ba bari bate bo bose buri bwa bya byo cya cyane cyangwa cyo ese gute "
    "ha hari he hehe ibi ibihe ibyo icyo icyi iki ikihe ikintu iri iryo iyi iyihe iyo izi izo ka kandi ki kigira ko "
    "kubera kuki ku kuri kwa mbese mu muri na nde ndetse ngahe angahe ni nibande nina ninde nka nta ntabwo nuko nyuma "
    "ryari rwa rwo se ubu ubwo uhe uko ukuhe umwe urwo uru uwo uwuhe uyu wa wari yari ya yo za zo "
    # Swahili
    "ambao ambaye ambayo au baada bado basi bila cha gani hapa hapo hata hii hilo hili hivyo hiyo hizi hizo huku huo "
    "huu huyo huyu ikiwa ili ipi je jinsi juu kabla kama katika kila kuhusu kutoka kuwa kwa kwamba kwenye la lakini "
    "lini lipi mbona mimi mno mwa nani ndani ndio ndiyo ngapi nini ninyi nyinyi pamoja pia sana sasa sisi tu ule "
    "upi vile vipi wake wao wapi wewe yake yao yeye yupi zake zao zipi".split()
)


def fold(text: str) -> str:
    """Lower case without accents, for comparing only."""
    if text.isascii():
        return text.lower()
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))


def content_terms(text: str, language: str) -> list[str]:
    """Stems of the words with a meaning, in order, repeated as in the text; stemmed where `language` has rules."""
    words = [word for word in _WORD.findall(fold(text)) if _carries_meaning(word)]
    algorithm = _STEMMERS.get(language)
    # A stemmer is made each time, which costs less than a microsecond: it may not be shared between threads.
    return Stemmer.Stemmer(algorithm).stemWords(words) if algorithm else words


def name_terms(text: str, language: str) -> list[str]:
    """Stems of the names and numbers: words with a digit, or with a capital anywhere but where a sentence begins.

    A text all in capitals, or all without, names nothing that could be told from its other words.
    """
    if text.isupper():
        return []
    words = (match[0] for match in _WORD.finditer(text) if _is_name(match, text))
    return content_terms(" ".join(words), language)


def _is_name(word: re.Match[str], text: str) -> bool:
    if any(character.isdigit() for character in word[0]):
        return True
    before = text[: word.start()].rstrip(" \t\"'([\u00ab\u201c\u2018\u00bf")
    return word[0][0].isupper() and bool(before) and before[-1] not in ".?!:\n"


def _carries_meaning(word: str) -> bool:
    return word.isdigit() or (len(word) > 1 and word not in _STOP_WORDS)


class QuestionTerms:
    """The question's words, weighed by how rare they are among the passages found for it.

    The weight is the inverse document frequency of Robertson and Sparck Jones as used by Lucene's BM25,
    ln(1 + (N - df + 0.5) / (df + 0.5)), with passages as documents: a word that no passage holds weighs most.
    """

    def __init__(self, question_terms: Iterable[str], passages: Sequence[AbstractSet[str]]) -> None:
        vocabulary = {term for passage in passages for term in passage}
        self._credits = {term: _stand_ins(term, vocabulary) for term in dict.fromkeys(question_terms)}
        self._weights = {
            term: _inverse_frequency(sum(1 for passage in passages if not passage.isdisjoint(credit)), len(passages))
            for term, credit in self._credits.items()
        }
        self._total = sum(self._weights.values())

    def coverage(self, terms: AbstractSet[str]) -> float:
        """Share in [0, 1] of the question's weight that `terms` hold; 0 for a question without a meaning word."""
        if not self._total:
            return 0.0
        found = 0.0
        for term, credit in self._credits.items():
            held = terms & credit.keys()
            if held:
                found += self._weights[term] * max(credit[word] for word in held)
        return found / self._total


def _inverse_frequency(frequency: int, passages: int) -> float:
    return math.log(1 + (passages - frequency + 0.5) / (frequency + 0.5))


def _stand_ins(term: str, vocabulary: AbstractSet[str]) -> dict[str, float]:
    """Words that count as `term`, with how much: itself, or words like it where the passages do not hold it."""
    if term in vocabulary or len(term) < _SHORTEST_SIMILAR or term.isdigit():
        return {term: 1.0}
    grams = _trigrams(term)
    similar = {
        word: similarity
        for word in vocabulary
        if len(word) >= _SHORTEST_SIMILAR and (similarity := _dice(grams, _trigrams(word))) >= _SIMILAR
    }
    return similar or {term: 1.0}


@functools.lru_cache(maxsize=20_000)
def _trigrams(word: str) -> frozenset[str]:
    return frozenset(word[start : start + 3] for start in range(len(word) - 2))


def _dice(left: frozenset[str], right: frozenset[str]) -> float:
    return 2 * len(left & right) / (len(left) + len(right))
