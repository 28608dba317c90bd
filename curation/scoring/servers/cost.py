"""The cost of having texts written, said before anything is asked: requests, images, tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mmcorpus.curation.engine.output import indexed_from
from mmcorpus.curation.scoring.batches import read_shard_rows
from mmcorpus.curation.scoring.reads import read_columns, with_tables_read
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import table_path, tables_done
from mmcorpus.curation.store.shards import Shard, list_shards, no_shards
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.written import WrittenScorer

LOOKED_AT: Final = 512
"""Samples whose prompts are written out for the estimate."""
_SHARDS: Final = 8
"""From so many shards, at most."""
_CHARACTERS: Final = 4
"""Of English a token, about; scripts such as Chinese take a token for one or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a scorer is going to ask, at most: answers that are kept from before are not asked for again."""

    scorer: str
    model: str
    samples: int
    """In shards that have no table of it yet, and have the texts that it reads."""
    requests: int
    """Of these, those that can be asked about, as far as those looked at tell."""
    images: int
    prompt_tokens: int
    """Of their texts, a token for four characters; what an image takes is the model's affair."""
    answer_tokens: int
    """At most."""

    def said(self) -> str:
        """A line for people."""
        images = f", {self.images:,} images" if self.images else ""
        return (
            f"{self.scorer} asks {self.model} about {self.samples:,} samples: at most {self.requests:,} requests"
            f"{images}, about {self.prompt_tokens:,} tokens of prompts, at most {self.answer_tokens:,} of answers; "
            "what was answered before is not asked again"
        )


def estimate(scorer: WrittenScorer, shards_root: str, out_root: str) -> Cost:
    """The cost of a scorer for shards, from the prompts of samples of some of them.

    Where the prompt reads texts that another scorer has not written yet, none of them is counted in the tokens.

    Raises:
        ValueError: there are no shards.
    """
    shards = list_shards(shards_root)
    if not shards:
        raise no_shards(shards_root)
    sizes = {shard.name: int(storage.read_json(shard.stats)["successes"]) for shard in shards}
    try:
        known: Scorer = with_tables_read([scorer], out_root)[0]
        done = tables_done(out_root, sizes, [known], indexed_from(shards_root))[scorer.name]
    except ValueError:  # what it reads is not there yet
        known, done = scorer, {}
    lacking = [shard for shard in shards if shard.name not in done]
    if known is not scorer:  # elsewhere what it reads could not be written, and it is not asked
        read = {column.partition(".")[0] for column in scorer.reads()}
        lacking = [one for one in lacking if all(storage.exists(table_path(out_root, own, one.name)) for own in read)]
    samples = sum(sizes[shard.name] for shard in lacking)
    looked, asked, characters = 0, 0, 0
    for shard in lacking[:: max(1, -(-len(lacking) // _SHARDS))]:
        for uid, values in _values(scorer, shard, out_root, written=known is not scorer):
            looked += 1
            if not isinstance(values, str):
                asked += 1
                characters += len(scorer.asked.fill(uid, values)) + len(scorer.asked.system or "")
    requests = round(samples * asked / looked) if looked else 0
    return Cost(
        scorer=scorer.name,
        model=scorer.model_name,
        samples=samples,
        requests=requests,
        images=requests if scorer.asked.image else 0,
        prompt_tokens=round(requests * characters / asked / _CHARACTERS) if asked else 0,
        answer_tokens=requests * scorer.max_tokens,
    )


def _values(
    scorer: WrittenScorer, shard: Shard, out_root: str, *, written: bool
) -> Iterator[tuple[str, dict[str, str] | str]]:
    """The uids of some samples of a shard, and what each has for the prompt's places."""
    rows = read_shard_rows(shard, set(scorer.inputs))
    uids = rows.columns["uid"]
    if scorer.reads():
        unknown: list[dict[str, Any]] = [dict.fromkeys(scorer.reads(), ".")] * len(uids)
        rows.columns["scores"] = read_columns(out_root, shard.name, scorer.reads(), uids) if written else unknown
    for place in range(0, len(uids), max(1, len(uids) * _SHARDS // LOOKED_AT)):
        yield uids[place], scorer.values({name: values[place] for name, values in rows.columns.items()})
