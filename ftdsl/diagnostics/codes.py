"""Every code and its name, in one table. A code is never reused."""

CODES = {
    # FT00x-02x keys and values
    "FT001": "unknown-key",
    "FT002": "unknown-value",
    "FT003": "out-of-range",
    "FT005": "key-not-here",
    "FT006": "set-twice",
    "FT010": "missing-argument",
    "FT011": "missing-key",
    "FT012": "not-in-this-engine",
    "FT013": "derived-key",
    "FT014": "has-a-word",
    "FT015": "unknown-function",
    "FT016": "unknown-argument",
    # FT03x syntax
    "FT030": "unexpected-token",
    "FT031": "unclosed-string",
    "FT032": "stray-character",
    "FT033": "unclosed-block",
    "FT034": "colon-for-equals",
    "FT035": "missing-value",
    "FT036": "missing-binder",
    "FT037": "two-items-on-a-line",
    "FT038": "stray-brace",
    "FT039": "bad-text",
    # FT04x names, scopes, includes
    "FT040": "unknown-name",
    "FT041": "ambiguous-name",
    "FT042": "name-cycle",
    "FT043": "include-failed",
    "FT044": "unknown-parameter",
    "FT045": "parameter-not-set",
    "FT046": "bad-name",
    "FT047": "secret-in-env",
    "FT048": "environment-missing",
    "FT049": "lock-differs",
    "FT050": "unreadable-document",
    "FT051": "not-a-known-file",
    # FT06x units and types
    "FT060": "wrong-type",
    "FT061": "unknown-unit",
    "FT062": "unit-missing",
    "FT063": "bad-arithmetic",
    # FT08x profiles, axes, search
    "FT080": "unknown-profile",
    "FT081": "sample-without-search",
    "FT082": "shared-destination",
    "FT083": "bad-axis",
    "FT084": "search-not-run",
    "FT085": "unknown-target",
    # FT4xx distributed
    "FT401": "batch-equation",
    # FT5xx data
    "FT501": "file-not-found",
    "FT502": "wrong-data-for-stage",
    "FT504": "template-differs",
    # FT6xx stages and hand-offs
    "FT620": "unknown-stage",
    "FT621": "stage-cycle",
    "FT622": "wrong-hand-off",
    "FT623": "two-methods",
    "FT627": "stack-not-supported",
    # choices made for the author
    "FT700": "chosen-for-you",
    # what a run finds
    "FT950": "stage-failed",
    "FT951": "nothing-to-learn",
    "FT952": "template-and-tokenizer",
    "FT953": "no-generation-prompt",
    "FT954": "made-by-a-smoke-run",
    "FT955": "package-missing",
    # environment
    "FT900": "engine-missing",
    "FT901": "version-outside-pins",
}
