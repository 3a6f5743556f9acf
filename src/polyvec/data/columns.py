"""Which column of a table plays which role: told by the person, or guessed from common names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvec.data.csv_file import DELIMITERS
from polyvec.errors import DataError, nearest_name

if TYPE_CHECKING:
    from polyvec.data.table import Table

USER = "user_id"
ITEM = "item_id"
TIMESTAMP = "timestamp"
ACTION = "action"
QUANTITY = "quantity"
TEXTS = (ACTION, "scenario", "query")
REQUIRED = (USER, ITEM, TIMESTAMP)
NUMBERS = ("label", "rating", "price", QUANTITY)

# names are compared in lower case, letters and digits only: "Customer ID" is customer_id
EVENT_NAMES: Mapping[str, str] = {
    USER: "userid user uid customerid customer customerno visitorid visitor memberid member clientid "
    "shopperid buyerid householdid householdkey accountid reviewerid "
    "sessionid fullvisitorid",
    ITEM: "itemid item iid productid product stockcode sku skuid articleid article asin movieid goodsid "
    "productno itemno listingid",
    TIMESTAMP: "timestamp time ts datetime date eventtime eventtimestamp eventdate invoicedate orderdate "
    "ordertime purchasedate purchasetime transactiondate transactiontime createdat unixtime unixtimestamp "
    "unixreviewtime tdat",
    ACTION: "action actiontype event eventtype eventname behavior behaviour behaviortype behaviourtype "
    "interaction interactiontype",
    "scenario": "scenario country market channel",
    "label": "label",
    "rating": "rating stars",
    "price": "price unitprice",
    QUANTITY: "quantity qty",
    "query": "query searchquery searchterm",
}
"""Common names of the roles of an event log's columns, separated by spaces."""
ITEM_NAMES: Mapping[str, str] = {
    ITEM: EVENT_NAMES[ITEM],
    "title": "title producttitle itemtitle productname itemname name prodname",
    "category": "category categoryid productcategory itemcategory",
    "brand": "brand brandid brandname",
    "shop": "shop shopid seller sellerid store storeid",
    "price": EVENT_NAMES["price"],
}
"""Common names of the roles of a catalogue's columns."""


@dataclass(frozen=True)
class Roles:
    """Which column of one table plays which role.

    Attributes
    ----------
    columns
        Column by role.
    guesses
        What was guessed, for people to read: ``user_id = CustomerID``.
    """

    columns: dict[str, str]
    guesses: list[str]


def find_roles(
    table: Table,
    told: Mapping[str, str],
    names: Mapping[str, str],
    required: tuple[str, ...],
    option: str = "--column",
) -> Roles:
    """Give every role its column.

    Parameters
    ----------
    table
        Whose columns.
    told
        Columns that the person named, by role; an empty name means none.
    names
        Common names of every role that may be guessed, separated by spaces.
    required
        Roles that must be played.
    option
        Name of the option that names columns, for messages.

    Raises
    ------
    DataError
        If a named column does not exist, a guess is not unique, or a required role has no column.
    """
    columns = {role: _existing(table, role, name, option) for role, name in told.items() if name}
    guesses = []
    for role in names:
        guess = None if role in told else _guess(table, role, names[role], option)
        if guess is not None:
            columns[role] = guess
            guesses += [f"{role} = {guess}"] if guess != role else []
    for role in required:
        if role not in columns:
            raise _missing(table, role, option)
    return Roles(columns, guesses)


def require_column(table: Table, name: str, option: str) -> None:
    """Raise :class:`~polyvec.errors.DataError` if the table has no column that an option names."""
    if name not in table.schema:
        raise DataError(
            f"there is no column '{name}', which {option} names",
            file=table.name,
            expected=nearest_name(name, table.schema),
        )


def _existing(table: Table, role: str, name: str, option: str) -> str:
    require_column(table, name, f"{option} {role}={name}")
    return name


def _guess(table: Table, role: str, names: str, option: str) -> str | None:
    """The role's own name if there is one, else the one column with a common name."""
    if role in table.schema:
        return role
    found = [column for column in table.schema if _plain(column) in names.split()]
    own = [column for column in found if _plain(column) == _plain(role)]
    candidates = own or found
    if len(candidates) > 1:
        none = "" if role in REQUIRED else f", or {option} {role}= for none"
        quoted = " and ".join(f"'{name}'" for name in candidates)
        raise DataError(
            f"{quoted} could each be the {role}",
            file=table.name,
            column=role,
            expected="one candidate",
            mend=f"say which: {option} {role}={candidates[0]}{none}",
        )
    return candidates[0] if candidates else None


def _missing(table: Table, role: str, option: str) -> DataError:
    order = " or, without times, --order COLUMN" if role == TIMESTAMP else ""
    names = list(table.schema)
    if len(names) == 1 and any(letter in names[0] for letter in DELIMITERS):
        return DataError(
            f"the header holds one column, {names[0]!r}",
            file=table.name,
            expected="one column for each role, with the delimiter between them",
            mend="name the delimiter, of events and catalogue alike, with --delimiter; or let it be guessed",
        )
    return DataError(
        f"no column for {role}",
        file=table.name,
        column=role,
        expected="one of the columns " + ", ".join(table.schema),
        mend=f"name it: {option} {role}=COLUMN{order}",
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
