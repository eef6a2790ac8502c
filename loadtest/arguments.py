"""Arguments of the command line that click has no type for."""

from typing import Any

import click

from loadtest import variants
from loadtest.variants import InvalidVariant, Variant


class VariantType(click.ParamType[Variant]):
    """Something to measure."""

    name = "variant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Variant:
        if isinstance(value, Variant):
            return value
        try:
            return variants.parsed(value)
        except InvalidVariant as error:
            self.fail(str(error), param, ctx)


class Listed(click.ParamType[list[Any]]):
    """One or more of a type, separated by commas."""

    name = "list"

    def __init__(self, each: click.ParamType[Any]) -> None:
        self._each = each

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts:
            self.fail(f"{value!r} names nothing", param, ctx)
        return [self._each.convert(part, param, ctx) for part in parts]
