"""The JSON Schema of a study's TOML, for editors: keys, types, generators' settings, methods' options.

What it refuses the reader refuses (`spec.read_spec`); what needs the whole study, such as a name that must be there,
the reader alone sees. A setting of a `[[data]]` entry may be a list of its values, an axis of the grid, at any depth of
its tables. Published as simulations/schema.json with vcbench's own methods; an editor finds it by a first line

    #:schema schema.json

with the path from the study's file. `vcbench schema` prints it with the methods of other packages that are installed.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from vcbench.study import asked
from vcbench.study.checks import Target
from vcbench.study.entries import METHOD_KEYS, OWN_OPTIONS, MethodTable, registered_methods
from vcbench.study.generators import GENERATORS, FromCard, Generator
from vcbench.study.spec import StudyTable

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
OF_TYPE: Mapping[type, Schema] = {
    bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"},
    list: {"type": "array"}, dict: {"type": "object"},
}  # fmt: skip
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 1}


def study_schema(third_party: bool = False) -> Schema:
    """The schema as a mapping, with the methods of other packages where asked for."""
    definitions: dict[str, Schema] = {}
    root = _of(StudyTable, definitions)
    properties = root["properties"]
    properties["data"]["items"] = {"anyOf": [_real(), *(_entry(name, definitions) for name in GENERATORS)]}
    properties["methods"] = {**_methods(definitions, third_party), "minItems": 1}
    target = dict(definitions[Target.__name__], required=["mcse"])
    short = {"type": "number", "exclusiveMinimum": 0}
    properties["precision"] = {"type": "object", "additionalProperties": {"anyOf": [short, target]}}
    known = [{"required": [key]} for key in ("replicates", "precision")]
    sequential = {"properties": {"rule": {"const": "sequential"}}, "required": ["rule"]}
    head = {"$schema": DRAFT, "title": "A study of vcbench"}
    made = head | root | {"anyOf": [*known, sequential], "definitions": dict(sorted(definitions.items()))}
    return _in_order(made)


def _in_order(node: Any) -> Any:
    """With the words of every `enum` sorted: Python keeps one object for equal Literals, in the order met first."""
    if isinstance(node, list):
        return [_in_order(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: sorted(value) if key == "enum" and isinstance(value, list) and all(isinstance(v, str) for v in value)
        else _in_order(value)
        for key, value in node.items()
    }  # fmt: skip


def schema_text(third_party: bool = False) -> str:
    """The schema as it is published: two blanks a level, keys in their order."""
    return json.dumps(study_schema(third_party), indent=2, ensure_ascii=False) + "\n"


def _of(model: Any, definitions: dict[str, Schema], change: Callable[[Schema], Schema] | None = None) -> Schema:
    """A table's schema in our form; the tables it holds are added to `definitions`, each changed by `change`."""
    made = TypeAdapter(model).json_schema(ref_template="#/definitions/{model}")
    for name, inner in made.pop("$defs", {}).items():
        definitions[name] = _plain(inner)
        if change is not None:
            definitions[name] = change(definitions[name])
    return _plain(made)


def _plain(node: Any) -> Any:
    """Without null, which TOML does not have, without the names pydantic gives to fields, and with nothing beside a
    `$ref`."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _plain(value) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if out.get("default", 0) is None:
        del out["default"]
    if "anyOf" in out:
        left = [part for part in out.pop("anyOf") if part != {"type": "null"}]
        out |= left[0] if len(left) == 1 and not (left[0].keys() & out.keys()) else {"anyOf": left}
    if "$ref" in out and len(out) > 1:
        out = {"allOf": [{"$ref": out.pop("$ref")}], **out}
    if "description" in out and isinstance(out["description"], str):
        out["description"] = " ".join(out["description"].split())
    return out


def _real() -> Schema:
    card = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    properties = {"name": TEXT, "about": TEXT, "card": card, "real": {"const": True}}
    said = "Real data of one or more cards: each method once."
    return _table(properties, ("card", "real"), said)


def _entry(name: str, definitions: dict[str, Schema]) -> Schema:
    """A `[[data]]` entry of one generator; every setting may be a list of its values."""
    table: type[Generator] = GENERATORS[name]
    made = _axes_within(_of(table, definitions, _axes_within))
    own: Schema = {
        "name": TEXT,
        "about": TEXT,
        "generator": {"const": name},
        "replicates": COUNT,
        "real": {"const": False},
    }
    required = [*made.get("required", ()), *([] if table is FromCard else ["generator"])]
    return _table(own | made["properties"], required, made.get("description", ""))


def _axes_within(node: Schema) -> Schema:
    """A table whose values may be lists of values."""
    out = dict(node)
    if isinstance(node.get("properties"), dict):
        out["properties"] = {key: _axis(value) for key, value in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _axis(node["additionalProperties"])
    return out


def _axis(value: Schema) -> Schema:
    """One value or a list of them, and the same within the tables that it may be."""
    said: Schema = {key: value[key] for key in ("description", "default") if key in value}
    one = _inside({key: part for key, part in value.items() if key not in said})
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}], **said}


def _inside(value: Schema) -> Schema:
    if "anyOf" in value:
        return value | {"anyOf": [_inside(part) for part in value["anyOf"]]}
    return _axes_within(value)


def _methods(definitions: dict[str, Schema], third_party: bool) -> Schema:
    """The list of names and tables, a table's options by its method; methods of the same options stand together."""
    table = _of(MethodTable, definitions)["properties"]
    for key, kinds in asked.KEYS.items():
        allowed = get_args(asked.IntervalTable.model_fields["kind"].annotation) if key == "interval" else get_args(
            asked.TestTable.model_fields["kind"].annotation)  # fmt: skip
        assert "kind" in kinds
        table[key] = {"anyOf": [{"enum": list(allowed)}, table[key]]}
    for key in METHOD_KEYS:
        definitions[f"method.{key}"] = table[key]
    groups: dict[str, list[str]] = {}
    names = []
    for name, method in sorted(registered_methods().items()):
        if not third_party and str(getattr(method, "load", None) or "vcbench.").partition(".")[0] != "vcbench":
            continue
        options = {key: OF_TYPE.get(kind, {}) for key, kind in method.options.items() if key not in OWN_OPTIONS}
        groups.setdefault(json.dumps(options, sort_keys=True), []).append(name)
        names.append(name)
    tables = []
    for text, alike in groups.items():
        shared = {key: {"$ref": f"#/definitions/method.{key}"} for key in METHOD_KEYS if key != "name"}
        own = {"name": {"enum": alike}}
        tables.append(_table(own | shared | json.loads(text), ("name",), ""))
    return {"type": "array", "items": {"anyOf": [{"enum": names}, *tables]}}


def _table(properties: Schema, required: Iterable[str], description: str) -> Schema:
    said = {"description": description} if description else {}
    return {
        "type": "object", **said, "properties": properties, "required": list(required), "additionalProperties": False,
    }  # fmt: skip
