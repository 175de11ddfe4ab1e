"""What kind of message a learner sent: a courtesy, a question that leans on the one before, or a plain question."""

import re
from collections.abc import Sequence
from typing import Final

from bwenge.persona.contract import HistoryMessage
from bwenge.persona.fallbacks import Courtesy
from bwenge.persona.lexical import content_terms, fold

_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 8
_LONGEST_PHRASE = 5

# Phrases are separated by bars.
_PHRASES: Final[dict[tuple[Courtesy, str], str]] = {
    ("greeting", "en"): """
        hello|hi|hey|good morning|good afternoon|good evening|good day|greetings|how are you|how are you doing|
        how do you do|nice to meet you|pleased to meet you|who are you|what is your name|what can you do|
        what can you teach me|what do you know""",
    ("greeting", "fr"): """
        bonjour|bonsoir|salut|coucou|comment allez vous|comment vas tu|comment ca va|ca va|enchante|qui es tu|
        qui etes vous|comment t appelles tu|comment vous appelez vous|que sais tu faire|que savez vous faire""",
    ("greeting", "rw"): """
        muraho|mwaramutse|waramutse|mwiriwe|wiriwe|bite|amakuru|amakuru yawe|amakuru yanyu|mumeze mute|umeze ute|
        mwaramutse ho|mwiriwe ho|uri nde|muri bande|witwa nde|wigisha iki|mwigisha iki""",
    ("greeting", "sw"): """
        habari|jambo|hujambo|hamjambo|mambo|shikamoo|salamu|salaam|habari yako|habari zenu|habari gani|
        habari za asubuhi|habari za mchana|habari za jioni|habari za leo|u hali gani|mambo vipi|wewe ni nani|
        jina lako ni nani|unaitwa nani|unafundisha nini""",
    ("thanks", "en"): "thanks|thank you|thanks a lot|thank you so much|many thanks|thx",
    ("thanks", "fr"): "merci|merci beaucoup|merci bien|grand merci",
    ("thanks", "rw"): "murakoze|urakoze|murakoze cyane|urakoze cyane",
    ("thanks", "sw"): "asante|asante sana|ahsante|ahsante sana|shukrani|nashukuru",
    ("farewell", "en"): "goodbye|bye|bye bye|good bye|good night|see you|see you later|see you soon|see you tomorrow",
    ("farewell", "fr"): "au revoir|a bientot|bonne nuit|a demain|bonne journee|adieu",
    ("farewell", "rw"): "murabeho|mwirirwe|mwirirweho|ijoro ryiza|umunsi mwiza|mugire umunsi mwiza|turongera",
    ("farewell", "sw"): "kwaheri|kwa heri|usiku mwema|tutaonana|siku njema",
}
_COURTESY_OF: Final = {
    tuple(phrase.split()): courtesy for courtesy, phrases in _PHRASES.items() for phrase in phrases.split("|")
}
_ADDRESSES: Final = frozenset(
    "teacher sir madam mr mrs ms dr doctor prof professor there everyone all friend dear very much so and my ok okay "
    "monsieur madame mademoiselle professeur maitre docteur beaucoup et tous mwarimu mwalimu cyane nshuti rafiki "
    "bwana bi dada kaka sana na".split()
)

# Words that point at what was said before; folded. An article, such as French "le", points at nothing.
_POINTERS: Final = frozenset(
    "it its that this these those they them their he him his she her more again example examples else former latter "
    "cela ca ceci celui celle ceux celles il elle ils elles lui leur encore exemple exemples plus "
    "ibyo ibi icyo iki iyo iyi uwo uyu abo we bo yo byo cyo rwo bwo urugero ingero "
    "hiyo hilo hicho hayo huyo hao hizo huo hivyo yeye wao zaidi mfano mifano".split()
)
_MOST_FOLLOW_UP_TERMS = 2
LONGEST_SEARCHED: Final = 1_500
"""Characters of a message that are searched for: the work grows with them, and others' questions wait behind it."""


def courtesy_of(message: str, *, persona_name: str) -> tuple[Courtesy, str] | None:
    """The courtesy that the whole message is, and its language; None when it says anything more."""
    words = _WORD.findall(fold(message))
    if not 0 < len(words) <= _MOST_WORDS:
        return None
    addresses = _ADDRESSES | set(_WORD.findall(fold(persona_name)))
    found: tuple[Courtesy, str] | None = None
    position = 0
    while position < len(words):
        length, courtesy = _phrase_at(words, position)
        if courtesy is None and words[position] not in addresses:
            return None
        found = found or courtesy
        position += length
    return found


def _phrase_at(words: Sequence[str], position: int) -> tuple[int, tuple[Courtesy, str] | None]:
    for length in range(_LONGEST_PHRASE, 0, -1):
        courtesy = _COURTESY_OF.get(tuple(words[position : position + length]))
        if courtesy is not None and position + length <= len(words):
            return length, courtesy
    return 1, None


def search_texts(question: str, history: Sequence[HistoryMessage]) -> tuple[str, ...]:
    """What to search for, in the order in which it is tried.

    "Why?" and "Who discovered it?" mean nothing alone: they are searched together with the last question that did.
    """
    question = question[:LONGEST_SEARCHED]
    if not leans_on_history(question):
        return (question,)
    asked = (message.content[:LONGEST_SEARCHED] for message in reversed(history) if message.role == "user")
    before = next((content for content in asked if not leans_on_history(content)), None)
    return (question,) if before is None else (f"{before}\n{question}", question)


def leans_on_history(question: str) -> bool:
    words = _WORD.findall(fold(question))
    terms = [term for term in content_terms(question, "") if term not in _POINTERS]
    if not terms:
        return True
    return len(set(terms)) <= _MOST_FOLLOW_UP_TERMS and not _POINTERS.isdisjoint(words)
