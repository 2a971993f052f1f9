#!/usr/bin/env python3
"""Writes what each version of each standard op has: `compiler/onnx/src/export/schemas.txt`, which the exporter reads.

    python3 make_schemas.py > compiler/onnx/src/export/schemas.txt        (needs: onnx)

A line is an op, the operator set that brought this form of it, the least and the most inputs, the dtypes of each input
and the attributes, with `=` and the default where they have one. Dtypes are letters, `*` is any type, `~` repeats the
input before; the last input's dtypes hold for those after it.
"""

import onnx
from onnx import defs

OLDEST = 7  # the operator sets that optc reads begin here
LETTERS = {
    "float": "f", "double": "d", "float16": "e", "bfloat16": "g", "int8": "b", "uint8": "B", "int16": "h",
    "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "bool": "?", "string": "s", "int4": "k",
    "uint4": "K",
}


def dtypes(schema, formal):
    types = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}.get(formal.type_str)
    types = types or [formal.type_str]
    if any(not t.startswith("tensor(") for t in types):
        return "*"
    return "".join(letter for name, letter in LETTERS.items() if f"tensor({name})" in types) or "*"


def default(attribute):
    value = onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
    if value is None:
        return ""
    if isinstance(value, list):
        return "=" + "[" + ",".join(text(v) for v in value) + "]"
    return f"={text(value)}"


def text(value):
    return value.decode() if isinstance(value, bytes) else repr(value)


def line(schema):
    types = [dtypes(schema, formal) for formal in schema.inputs]
    shown = ["~" if i and types[i - 1] == found else found for i, found in enumerate(types)]
    while shown and shown[-1] == "~":
        shown.pop()
    most = schema.max_input if schema.max_input < 1 << 30 else "-"
    attributes = [a.name + default(a) for a in schema.attributes.values()]
    words = [schema.name, schema.since_version, schema.min_input, most, ",".join(shown) or "*", *sorted(attributes)]
    return " ".join(map(str, words))


def main():
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == ""]
    schemas = [s for s in schemas if s.support_level == defs.OpSchema.SupportType.COMMON]
    for name in sorted({s.name for s in schemas}):
        versions = sorted((s for s in schemas if s.name == name), key=lambda s: s.since_version)
        start = max((s.since_version for s in versions if s.since_version <= OLDEST), default=0)
        for schema in versions:
            if schema.since_version >= start:
                print(f"{name} {schema.since_version} removed" if schema.deprecated else line(schema))


if __name__ == "__main__":
    main()
