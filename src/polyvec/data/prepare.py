"""From any event log and catalogue to a Dataset, checked, in bounded memory.

Two passes. The first streams the events: every chunk is checked, its bad rows go to the quarantine, its
items and texts get codes, and its good rows are spread by user over a few files. The second takes these files
one by one: repeated events are dropped, histories sorted by (user, time, source order) and capped, users
numbered, and the columns of the Dataset appended.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.artifact import refuse_existing, writing
from polyvec.data.catalogue import CatalogueCounts, read_catalogue
from polyvec.data.checks import DECIMALS, TIME, EventRules, first_reasons, is_empty
from polyvec.data.columns import ACTION, ITEM, TIMESTAMP, USER
from polyvec.data.dataset import PURCHASE, Dataset
from polyvec.data.options import PrepareOptions
from polyvec.data.plan import Plan, make_plan
from polyvec.data.profile import Tally, describe, value_counts
from polyvec.data.quarantine import Quarantine
from polyvec.data.read import Source
from polyvec.data.spill import Histories, Interner, NpyWriter, Spill
from polyvec.data.times import TimeReader, time_reader
from polyvec.errors import ArtifactError, DataError, nearest_name
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

    from polyvec.data.table import Chunk, Table

COUNTED = (ACTION, "scenario")
MANY = 0.1  # share of the rows; fewer that are set aside are told in the table alone
Progress = Callable[[int], None]

__all__ = ["PrepareOptions", "Source", "prepare"]


def prepare(
    events: Source,
    out: str | os.PathLike[str],
    *,
    items: Source | None = None,
    options: PrepareOptions | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Check an event log and write it as a Dataset folder, in bounded memory.

    The events of one user have to fit into memory, unless ``max_history`` caps them.

    Parameters
    ----------
    events
        A path (CSV, Parquet, Arrow), a glob, a pandas, Polars or Arrow frame, or a list of these.
    out
        The folder to write; it appears whole or not at all.
    items
        The catalogue, from the same kinds of sources.
    options
        Which column is what, and the rules.
    on_progress
        Called with the number of event rows read so far.

    Returns
    -------
    Dataset
        Opened from the folder. Its ``profile.json`` counts rows: read = kept + duplicates + quarantined
        (+ cut by ``max_history``); its ``quarantine.parquet`` holds every row that was set aside, and why.

    Raises
    ------
    DataError
        If a source cannot be read or understood, or no row is good.
    UsageError
        If an option cannot be used.
    ArtifactError
        If the folder exists already or cannot be written.
    """
    options = options or PrepareOptions()
    path = Path(out)
    refuse_existing(path, "dataset", overwrite=options.overwrite)
    plan = make_plan(events, items, options)
    meta: dict[str, Any] = {}
    try:
        with writing(path, "dataset", meta=meta, overwrite=options.overwrite) as stage:
            meta.update(_Preparation(stage, plan, options, on_progress or _silent).run())
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be written: {error.strerror or error}",
            file=path,
            expected="a writable folder with enough space",
            mend="choose another output path or free some space",
        ) from error
    return Dataset.open(path)


def _silent(_: int) -> None:
    return


@dataclass
class _Preparation:
    """One run: from the plan to a staging folder full of files."""

    stage: Path
    plan: Plan
    options: PrepareOptions
    on_progress: Progress
    read: int = 0
    notes: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes += self.plan.notes
        self._interners = {name: Interner(pl.String) for name in self.plan.texts}
        self._items = Interner(self.plan.item_type)
        self._unseen = set(self.options.purchases)
        self._histories = Histories(self.options.keep_duplicates, self.options.max_history)

    def run(self) -> dict[str, Any]:
        """Write all files and return what the manifest is to remember."""
        scratch = self.stage / "scratch"
        with Quarantine(self.stage / "quarantine.parquet") as quarantine:
            catalogue, counts = self._catalogue(quarantine)
            in_catalogue_quarantine = len(quarantine)
            with Spill(scratch, self.plan.partitions()) as spill:
                for table, rules in self.plan.events:
                    self._check_table(table, rules, spill, quarantine)
                quarantined = len(quarantine) - in_catalogue_quarantine
                self._refuse_nothing(quarantined, quarantine)
                profile = self._write(spill, catalogue)
        shutil.rmtree(scratch)
        self._note_actions(profile["actions"])
        self._note_set_aside(quarantine, counts, profile)
        profile |= self._summary(quarantine, quarantined, counts, profile["events"])
        text = json.dumps(profile, indent=1, ensure_ascii=False)
        (self.stage / "profile.json").write_text(text + "\n", "utf-8")
        return self._meta(profile)

    def _catalogue(self, quarantine: Quarantine) -> tuple[pl.DataFrame | None, CatalogueCounts | None]:
        if not self.plan.catalogue:
            return None, None
        items, counts = read_catalogue(self.plan.catalogue, self.plan.item_type, quarantine)
        self.notes += counts.notes
        return items, counts

    # ---- first pass -------------------------------------------------------------------------------------

    def _check_table(self, table: Table, rules: EventRules, spill: Spill, quarantine: Quarantine) -> None:
        before = self.read
        for chunk in table.chunks(list(dict.fromkeys(rules.roles.values()))):
            if rules.times is None:
                rules = replace(rules, times=self._decide_times(table, rules, chunk))
            self._check_chunk(chunk, table.name, rules, spill, quarantine)
            self.on_progress(self.read)
        self.sources.append({"name": table.name, "rows": self.read - before})

    def _decide_times(self, table: Table, rules: EventRules, chunk: Chunk) -> TimeReader | None:
        """How this table's times are to be read, or None if the chunk shows none."""
        column = rules.roles[TIMESTAMP]
        values = chunk.frame[column]
        sample = values.filter(~is_empty(values))
        if table.is_text:
            sample = sample.filter(sample != column)  # the header may be repeated
        if not len(sample):
            return None
        reader = time_reader(sample, table.name, column, self.options)
        if reader.note and reader.note not in self.notes:
            self.notes.append(reader.note)
        return reader

    def _check_chunk(
        self, chunk: Chunk, name: str, rules: EventRules, spill: Spill, quarantine: Quarantine
    ) -> None:
        self.read += len(chunk.frame) + len(chunk.malformed)
        quarantine.add_malformed(name, chunk.malformed)
        if not len(chunk.frame):
            return
        if self._unseen and ACTION in rules.roles:
            actions = chunk.frame[rules.roles[ACTION]]
            self._unseen -= set(actions.filter(actions.is_in(list(self._unseen))).unique())
        events, faults = rules.apply(chunk.frame)
        broken, reasons = first_reasons(faults, len(events))
        bad = broken >= 0
        if bad.any():
            why = pl.Series(reasons).gather(broken[bad])
            quarantine.add(name, chunk.rows[bad], why, chunk.frame.filter(pl.Series(bad)))
            events = events.filter(pl.Series(~bad))
        if len(events):
            spill.add(self._coded(events))

    def _coded(self, events: pl.DataFrame) -> pl.DataFrame:
        """Items and texts as codes; ids of users stay as they are until the second pass."""
        coded = [self._items.codes(events[ITEM]).alias(ITEM)]
        coded += [codes.codes(events[name]).alias(name) for name, codes in self._interners.items()]
        return events.with_columns(coded)

    def _refuse_nothing(self, quarantined: int, quarantine: Quarantine) -> None:
        if not self.read:
            raise DataError(
                "the events have no rows",
                file=self.plan.events[0][0].name,
                expected="at least one row",
                mend="check the export",
            )
        if quarantined == self.read:
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in quarantine.counts.most_common())
            raise DataError(
                f"none of the {self.read:,} rows is good: {reasons}",
                file=self.plan.events[0][0].name,
                expected="at least one good row",
                mend="check which column is what: --column ROLE=COLUMN",
            )

    # ---- second pass ------------------------------------------------------------------------------------

    def _write(self, spill: Spill, catalogue: pl.DataFrame | None) -> dict[str, Any]:
        item_table = _item_table(self._items.values, catalogue)
        item_table.write_parquet(self.stage / "items.parquet")
        in_catalogue = (
            None if catalogue is None else item_table[ITEM].is_in(catalogue[ITEM].implode()).to_numpy()
        )
        maps = {ITEM: Vocabulary(item_table[ITEM], ITEM).rows(self._items.values)}
        texts = {name: self._write_texts(name, interner, maps) for name, interner in self._interners.items()}
        tally = Tally(np.zeros(len(item_table), np.int64))
        tally.values = {name: np.zeros(len(texts[name]) + 1, np.int64) for name in COUNTED if name in texts}
        users = self._write_events(spill, maps, tally)
        profile = describe(tally, users, item_table, in_catalogue, self.plan.time_kind)
        for name in COUNTED:
            profile[name + "s"] = value_counts(tally.values[name], texts[name]) if name in texts else {}
        return profile

    def _write_texts(
        self, name: str, interner: Interner, maps: dict[str, npt.NDArray[np.int64]]
    ) -> list[str]:
        """Write a column's distinct texts, sorted, and remember the final code of every interned one."""
        (self.stage / "columns").mkdir(exist_ok=True)
        texts = interner.values.sort().alias(name)
        pl.DataFrame({name: texts}).write_parquet(self.stage / "columns" / f"{name}.parquet")
        maps[name] = Vocabulary(texts, name).rows(interner.values)
        return texts.to_list()

    def _write_events(self, spill: Spill, maps: dict[str, npt.NDArray[np.int64]], tally: Tally) -> pl.Series:
        users = []
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(writer) for name, writer in self._writers(len(tally.item_events))
            }
            for batches in spill.partitions():
                ids, events = self._histories.build(batches)
                if len(events):
                    users.append(ids)
                    _append(events, writers, maps, tally)
        all_users = pl.concat(users).alias(USER)
        pl.DataFrame({USER: all_users}).write_parquet(self.stage / "users.parquet")
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(tally.user_events))])
        np.save(self.stage / "user_offsets.npy", offsets.astype(np.int64))
        return all_users

    def _writers(self, num_items: int) -> Iterator[tuple[str, NpyWriter]]:
        yield ITEM, NpyWriter(self.stage / "item.npy", np.int32 if num_items < 2**31 else np.int64)
        yield TIME, NpyWriter(self.stage / "time.npy", np.int64)
        for name in (*self.plan.texts, *self.plan.numbers):
            (self.stage / "columns").mkdir(exist_ok=True)
            number = np.float64 if name in self.options.keep else np.float32
            dtype = np.int32 if name in self.plan.texts else number
            yield name, NpyWriter(self.stage / "columns" / f"{name}.npy", dtype)

    # ---- what is told about it --------------------------------------------------------------------------

    def _summary(
        self, quarantine: Quarantine, quarantined: int, catalogue: CatalogueCounts | None, kept: int
    ) -> dict[str, Any]:
        histories = self._histories
        return {
            "rows": {
                "read": self.read,
                "kept": kept,
                "duplicates": histories.duplicates,
                "quarantined": quarantined,
                "cut": histories.cut,
            },
            "users_cut": histories.users_cut,
            "quarantined_by_reason": dict(quarantine.counts.most_common()),
            "catalogue": None if catalogue is None else catalogue.as_dict(),
            "sources": self.sources,
            "notes": self.notes,
        }

    def _note_actions(self, actions: dict[str, int]) -> None:
        if actions and PURCHASE not in actions:
            self.notes.append(
                f"no event has action '{PURCHASE}', which most systems learn from and tasks ask for, but "
                f"{', '.join(name or '(empty)' for name in actions)}: say which means it, --purchase ACTION"
            )
        for name in sorted(self._unseen):
            known = nearest_name(name, actions) if actions else "the events have no actions"
            self.notes.append(f"no event has action '{name}' (--purchase): {known}")

    def _note_set_aside(
        self, quarantine: Quarantine, catalogue: CatalogueCounts | None, profile: dict[str, Any]
    ) -> None:
        """Say plainly where much was set aside for one reason, or the catalogue is of other items."""
        for reason, count in quarantine.counts.most_common():
            if count >= MANY * self.read and not reason.startswith("catalogue"):
                self.notes.append(
                    f"{count:,} of {self.read:,} rows were set aside: {reason}"
                    + (f"; {DECIMALS}" if reason.endswith("is not a number") else "")
                )
        if catalogue is not None and catalogue.quarantined:
            self.notes.append(
                f"catalogue: {catalogue.quarantined:,} of {catalogue.read:,} rows were set aside"
            )
        if profile["events_not_in_catalogue"] == 1:
            self.notes.append("catalogue: it has none of the items of the events: are ids written alike?")

    def _meta(self, profile: dict[str, Any]) -> dict[str, Any]:
        options = asdict(self.options)
        del options["overwrite"]  # says nothing about the content
        return {
            "time_kind": self.plan.time_kind,
            "columns": [*self.plan.texts, *self.plan.numbers],
            **{name: profile[name] for name in ("events", "users", "items", "rows")},
            "options": options,
        }


def _item_table(event_items: pl.Series, catalogue: pl.DataFrame | None) -> pl.DataFrame:
    """All items, of events and catalogue, sorted by id, with the catalogue's columns."""
    if catalogue is None:
        return pl.DataFrame({ITEM: event_items.sort()})
    every = pl.concat([event_items.alias(ITEM), catalogue[ITEM]]).unique().sort()
    return pl.DataFrame({ITEM: every}).join(catalogue, on=ITEM, how="left", maintain_order="left")


def _append(
    events: pl.DataFrame,
    writers: dict[str, NpyWriter],
    maps: dict[str, npt.NDArray[np.int64]],
    tally: Tally,
) -> None:
    """Append one partition's sorted events to the columns of the Dataset."""
    codes = {name: _final_codes(events[name], final) for name, final in maps.items()}
    for name, writer in writers.items():
        writer.append(codes[name] if name in codes else _filled(events[name]).to_numpy())
    tally.add(
        events["user"].to_numpy(),
        codes[ITEM],
        events[TIME].to_numpy(),
        {name: codes[name] for name in tally.values},
    )


def _filled(values: pl.Series) -> pl.Series:
    """Missing numbers as NaN; integers, of which none is missing, as they are."""
    return values.fill_null(float("nan")) if values.dtype.is_float() else values


def _final_codes(codes: pl.Series, final: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Final codes of interned ones; −1, which is also the index of the last entry, for missing values."""
    final_codes: npt.NDArray[np.int64] = np.append(final, -1)[codes.fill_null(len(final)).to_numpy()]
    return final_codes
