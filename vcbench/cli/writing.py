"""`vcbench schema` and `vcbench study new`: what helps to write a study."""

from typing import Annotated

from cyclopts import Parameter


def schema(
    *,
    own: Annotated[
        bool, Parameter(negative="", show_default=False, help="Without the methods of other packages, as published.")
    ] = False,
) -> int:
    """Print the JSON Schema of a study's TOML, for editors: the first line  #:schema schema.json  names it."""
    from vcbench.study.schema import schema_text

    print(schema_text(third_party=not own), end="")
    return 0
