"""A book of twelve pages, one village a page, whose facts differ from page to page."""

from pathlib import Path
from typing import Final

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate
from reportlab.platypus.flowables import Flowable

VILLAGES: Final = tuple(
    "Kabuga Nyanza Rubavu Musanze Huye Gisagara Karongi Rwamagana Kayonza Ngoma Bugesera Rulindo".split()
)

_FACTS: Final = (
    "The well of {name} is {depth} metres deep and was dug by the families of the hill.",
    "Its school has {pupils} pupils, who learn in {rooms} rooms from Monday to Friday.",
    "Farmers in {name} grow beans, sorghum and sweet potatoes on terraces above the river.",
    "The market opens on {day} mornings, and traders bring baskets, salt and enamel pots.",
    "A cooperative of {members} women weaves mats there and sells them in the district town.",
    "In the long rains the road to {name} turns to mud, and the bus stops at the bridge.",
    "The health post keeps a register of births, of vaccinations and of visits for malaria.",
    "Older people tell how the first coffee trees were planted beside the chapel of {name}.",
    "Each household gives one morning a month to mending paths, drains and the common fence.",
    "The headteacher of {name} measures the rain with a gauge and writes it down at noon.",
    "Solar lamps arrived in {name} {years} years ago, so that children read after supper.",
    "A forest of eucalyptus stands behind the houses and gives poles for roofs and beds.",
)
_DAYS: Final = tuple("Monday Tuesday Wednesday Thursday Friday Saturday".split())
_TIMES: Final = 3
"""How often a page tells its facts; with it the book fills more than one batch of the embedder."""


def depth_of(village: str) -> int:
    return 20 + 3 * VILLAGES.index(village)


def question_about(village: str) -> str:
    return f"How deep is the well of {village}?"


def fact_about(village: str) -> str:
    return f"The well of {village} is {depth_of(village)} metres deep"


def page_of(village: str) -> int:
    return VILLAGES.index(village) + 1


def write_textbook(path: Path, *, villages: tuple[str, ...] = VILLAGES) -> Path:
    styles = getSampleStyleSheet()
    story: list[Flowable] = []
    for name in villages:
        story.append(Paragraph(f"The village of {name}", styles["Heading1"]))
        story.extend(Paragraph(_part(name, part), styles["BodyText"]) for part in range(_TIMES))
        story.append(PageBreak())
    SimpleDocTemplate(str(path), pagesize=A4, invariant=1).build(story)
    return path


def _part(name: str, part: int) -> str:
    number = VILLAGES.index(name)
    facts = " ".join(_FACTS[part * 4 :] + _FACTS[: part * 4])
    return facts.format(
        name=name,
        depth=depth_of(name),
        pupils=100 + 17 * number,
        rooms=4 + number,
        day=_DAYS[number % len(_DAYS)],
        members=11 + number,
        years=2 + number,
    )
