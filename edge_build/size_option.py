"""A size as an option of a command takes it. Heavy libraries are imported inside."""

import click


class SizeOption(click.ParamType):
    """Bytes, written as 4G, 4GB, 4096M or 3.5GiB."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the bytes."""
        from pocketlm.edge_build.byte_sizes import parse_size
        from pocketlm.edge_build.errors import BuildError

        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except BuildError as error:
            self.fail(str(error), param, ctx)
