"""One reply: find the passages, decide whether they hold the answer, write it, cite it."""

from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from bwenge.knowledge.contract import KnowledgeSearch, SearchHit, SearchQuery, SourceLinks
from bwenge.persona import extractive
from bwenge.persona.attribution import attributed_marker
from bwenge.persona.contract import (
    EXTRACTIVE_MODEL,
    AnimationHint,
    Citation,
    Reply,
    ReplyAnimation,
    ReplyDelta,
    ReplyEvent,
    ReplyRequest,
    Usage,
)
from bwenge.persona.evidence import Evidence, gather_evidence
from bwenge.persona.fallbacks import Courtesy, abstention, courtesy_answer, spoken_language
from bwenge.persona.grounding import Support, support_of
from bwenge.persona.markers import remove_markers
from bwenge.persona.model_answer import AnswerEnd, stream_answer
from bwenge.persona.profile import PersonaProfile, PersonaSource, ReplySettings
from bwenge.persona.prompts import chat_request
from bwenge.persona.questions import courtesy_of, search_texts
from bwenge.providers.embedding.base import Embedder
from bwenge.providers.llm.base import LanguageModel, ModelUnavailable

log = structlog.get_logger(__name__)

_COURTESY_ANIMATIONS: Mapping[Courtesy, AnimationHint] = {
    "greeting": "greeting",
    "thanks": "happy",
    "farewell": "waving",
}
_MOST_SUGGESTIONS = 3
_NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One question with all that its answer is made from; source n is `evidence.hits[n - 1]` to the end of the turn."""

    request: ReplyRequest
    profile: PersonaProfile
    settings: ReplySettings
    evidence: Evidence
    support: Support

    @property
    def may_be_withheld(self) -> bool:
        """Whether nobody has seen the answer yet, of a persona that only says what its sources do."""
        return self.settings.answer_mode == "grounded" and not self.request.is_streamed


class PersonaReplies:
    """`persona.contract.Replies` by a language model where there is one, else in the material's own sentences.

    An answer that has begun is never started again: only a model that fails before its first words is replaced.
    """

    def __init__(
        self,
        *,
        personas: PersonaSource,
        search: KnowledgeSearch,
        links: SourceLinks,
        embedder: Embedder,
        model: LanguageModel | None,
    ) -> None:
        self._personas = personas
        self._search = search
        self._links = links
        self._embedder = embedder
        self._model = model

    async def stream(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        profile = await self._personas.load(request.org_id, request.persona_id)
        settings = ReplySettings.of(profile.settings)
        yield ReplyAnimation("thinking")
        courtesy = courtesy_of(request.question, persona_name=profile.name)
        if courtesy is not None:
            for event in _courteous(*courtesy, profile=profile, settings=settings):
                yield event
            return
        turn = await self._read(request, profile=profile, settings=settings)
        async with aclosing(self._answer(turn)) as events:
            async for event in events:
                yield event

    async def _read(self, request: ReplyRequest, *, profile: PersonaProfile, settings: ReplySettings) -> _Turn:
        """Searches as the question stands, or first together with the one it leans on."""
        turns: list[_Turn] = []
        for text in search_texts(request.question, request.history):
            query = SearchQuery(
                request.org_id,
                request.persona_id,
                text,
                top_k=settings.top_k,
                alpha=settings.alpha,
                fusion=settings.fusion,
            )
            evidence = await gather_evidence(text, await self._search.search(query), embedder=self._embedder)
            support = support_of(evidence, abstain_below=settings.abstain_below)
            turns.append(_Turn(request, profile, settings, evidence, support))
            if support.is_enough:
                break
        return turns[-1]

    async def _answer(self, turn: _Turn) -> AsyncGenerator[ReplyEvent, None]:
        if self._model is not None and (turn.support.is_enough or turn.settings.answer_mode == "open"):
            try:
                async with aclosing(self._written(turn, self._model)) as events:
                    async for event in events:
                        yield event
            except ModelUnavailable as failure:
                log.warning("reply_without_model", persona_id=str(turn.request.persona_id), reason=str(failure.reason))
            else:
                return
        async with aclosing(self._extracted(turn)) as events:
            async for event in events:
                yield event

    async def _written(self, turn: _Turn, model: LanguageModel) -> AsyncGenerator[ReplyEvent, None]:
        """The language model's answer.

        Raises:
            ModelUnavailable: Nothing was yielded, so somebody else may answer.
        """
        hits = turn.evidence.hits if turn.support.is_enough else ()
        request = chat_request(
            turn.request.question,
            hits,
            profile=turn.profile,
            settings=turn.settings,
            history=turn.request.history,
            language=turn.evidence.language,
        )
        said: list[ReplyDelta] = []
        async with aclosing(stream_answer(model, request, markers=range(1, len(hits) + 1))) as pieces:
            async for piece in pieces:
                if isinstance(piece, AnswerEnd):
                    async for event in self._finished(turn, said, end=piece):
                        yield event
                    return
                if turn.request.is_streamed and not said:
                    yield ReplyAnimation("explaining")
                said.append(self._delta(piece.text, piece.markers, turn))
                if turn.request.is_streamed:
                    yield said[-1]

    async def _finished(
        self, turn: _Turn, said: list[ReplyDelta], *, end: AnswerEnd
    ) -> AsyncGenerator[ReplyEvent, None]:
        """The last events of an answer; one without any marker gets that of the source that says the same.

        A source that was deleted meanwhile is not cited: what was seen of the answer stays, what was not is withheld.
        """
        text, used = "".join(delta.text for delta in said), end.markers
        unseen = [] if turn.request.is_streamed else list(said)
        if said and turn.support.is_enough and not used and end.error_code is None:
            marker = await attributed_marker(text, turn.evidence, embedder=self._embedder)
            if marker is not None:
                used = (marker,)
                unseen.append(self._delta(f" [{marker}]", used, turn))
                text += unseen[-1].text
        citations = await self._citations(used, turn)
        is_supported = bool(used) and len(citations) == len(used)
        if not said or (not is_supported and end.error_code is None and turn.may_be_withheld):
            for event in _abstaining(turn, model=end.model, usage=end.usage):
                yield event
            return
        if not turn.request.is_streamed:
            yield ReplyAnimation("explaining")
        for delta in unseen:
            yield delta
        yield _reply(turn, text, end=end, citations=citations)

    async def _extracted(self, turn: _Turn) -> AsyncGenerator[ReplyEvent, None]:
        statements = extractive.compose(turn.evidence) if turn.support.is_enough else []
        said: list[ReplyDelta] = []
        used: dict[int, None] = {}
        for statement, text in zip(statements, extractive.deltas(statements), strict=True):
            new = () if statement.marker in used else (statement.marker,)
            used.update(dict.fromkeys(new))
            said.append(self._delta(text, new, turn))
        if said and turn.request.is_streamed:
            yield ReplyAnimation("explaining")
            for delta in said:
                yield delta
        async for event in self._finished(turn, said, end=AnswerEnd(tuple(used), EXTRACTIVE_MODEL)):
            yield event

    def _delta(self, text: str, markers: Sequence[int], turn: _Turn) -> ReplyDelta:
        return ReplyDelta(text, tuple(self._citation(marker, turn) for marker in markers))

    async def _citations(self, used: Collection[int], turn: _Turn) -> tuple[Citation, ...]:
        """Those of the markers whose source is still there, in their order."""
        if not used:
            return ()
        citations = [self._citation(marker, turn) for marker in sorted(used)]
        cited = {citation.source_id for citation in citations}
        existing = await self._search.existing(cited, turn.request.org_id)
        return tuple(citation for citation in citations if citation.source_id in existing)

    def _citation(self, marker: int, turn: _Turn) -> Citation:
        """Of the whole chunk, with the page and the heading of the sentence in it that says most."""
        hit: SearchHit = turn.evidence.hits[marker - 1]
        locator = hit.locator_at(turn.evidence.best_offset(marker - 1))
        return Citation(
            marker=marker,
            source_id=hit.source_id,
            chunk_id=hit.chunk_id,
            title=hit.title,
            text=hit.text,
            relevance_score=hit.score,
            locator=locator,
            source_url=self._links.source_url(hit.source_id, turn.request.org_id, locator=locator),
        )


def _reply(turn: _Turn, text: str, *, end: AnswerEnd, citations: tuple[Citation, ...]) -> Reply:
    return Reply(
        text=text,
        citations=citations,
        grounded=bool(citations),
        model=end.model,
        language=turn.evidence.language,
        animation_hint="explaining",
        finish_reason=end.finish_reason,
        error_code=end.error_code,
        usage=end.usage,
        actions=_opening(citations[:1]),
    )


def _courteous(
    courtesy: Courtesy, language: str, *, profile: PersonaProfile, settings: ReplySettings
) -> Iterator[ReplyEvent]:
    text = courtesy_answer(courtesy, language, name=profile.name)
    if courtesy == "greeting" and settings.greeting:
        text = settings.greeting
    animation = _COURTESY_ANIMATIONS[courtesy]
    yield from _ungrounded(text, animation=animation, language=language, profile=profile)


def _abstaining(turn: _Turn, *, model: str = EXTRACTIVE_MODEL, usage: Usage = _NO_USAGE) -> Iterator[ReplyEvent]:
    language = spoken_language(turn.evidence.language, otherwise=turn.settings.language)
    text = turn.settings.fallback_text or abstention(language)
    yield from _ungrounded(
        text, animation="shaking_head", language=language, profile=turn.profile, model=model, usage=usage
    )


def _ungrounded(
    text: str,
    *,
    animation: AnimationHint,
    language: str,
    profile: PersonaProfile,
    model: str = EXTRACTIVE_MODEL,
    usage: Usage = _NO_USAGE,
) -> Iterator[ReplyEvent]:
    """The persona's own words: they cite nothing, so what looks like a marker in a teacher's text goes."""
    text = remove_markers(text)
    yield ReplyAnimation(animation)
    yield ReplyDelta(text)
    yield Reply(
        text=text,
        citations=(),
        grounded=False,
        model=model,
        language=language,
        animation_hint=animation,
        usage=usage,
        actions=_suggesting(profile.sample_prompts),
    )


def _opening(citations: Sequence[Citation]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {
            "type": "open_source",
            "payload": {"marker": citation.marker, "source_id": str(citation.source_id), "url": citation.source_url},
        }
        for citation in citations
    )


def _suggesting(prompts: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"type": "suggest_question", "payload": {"question": prompt}} for prompt in prompts[:_MOST_SUGGESTIONS]
    )
