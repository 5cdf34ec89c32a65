"""The extractor, on small sources of each style that packages have."""

from __future__ import annotations

from ftdsl.catalog.extract import timelines
from ftdsl.catalog.extract.classes import Classes
from ftdsl.catalog.extract.of_llamafactory import tables
from ftdsl.catalog.extract.packages import Package
from ftdsl.catalog.extract.pins import newest, pins

SOURCE = '''
from enum import Enum
LIMIT = 2 * 512
class Kind(str, Enum):
    ONE = "one"
    TWO = "two"
@dataclass
class Base:
    """Doc."""
    shared: Optional[List[str]] = None
    kind: Union[str, Kind] = field(default=Kind.ONE.value, metadata={"help": "Which one. The rest is not kept."})
@dataclass
class Args(Base):
    needed: str
    count: "int" = field(default=LIMIT, metadata={"choices": [1, 1024]})
    word: Literal["a", "b"] = "a"
    many: list[str] = field(default_factory=list)
    made: float = field(default_factory=lambda: 0.5)
    later: int = field(default=compute(), metadata={})
    own: int = field(init=False)
    kind: Kind = Field(Kind.TWO, ge=1, alias="sort", json_schema_extra={"deprecated": True, "new_param": "word"})
'''


class Fake(Package):
    """Files in memory."""

    def __init__(self, files: dict[str, str], metadata: str = "") -> None:
        super().__init__("fake", "1.0")
        self.files, self.head = files, metadata

    def names(self) -> list[str]:
        return sorted(self.files)

    def text(self, path: str) -> str:
        return self.files[path]

    def metadata(self) -> str:
        return self.head


def test_fields_of_a_class_with_those_of_its_base() -> None:
    assert Classes(Fake({"a.py": SOURCE}), ["a.py"]).fields("Args") == {
        "shared": {"type": "list[str] | None", "default": None},
        "kind": {
            "type": "Kind", "default": "two", "alias": "sort", "ge": 1, "deprecated": True, "new_param": "word",
        },
        "needed": {"type": "str"},
        "count": {"type": "int", "default": 1024, "choices": [1, 1024]},
        "word": {"type": "Literal['a', 'b']", "default": "a", "choices": ["a", "b"]},
        "many": {"type": "list[str]", "default": []},
        "made": {"type": "float", "default": 0.5},
        "later": {"type": "int", "default_code": "compute()"},
    }  # fmt: skip
    base = Classes(Fake({"a.py": SOURCE}), ["a.py"]).fields("Base")
    assert base["kind"] == {"type": "Kind | str", "default": "one", "help": "Which one"}


def test_an_old_style_and_a_new_one_are_the_same_type() -> None:
    old = "@dataclass\nclass A:\n  x: Optional[Union[Dict[str, Any], str]] = None\n"
    new = "@dataclass\nclass A:\n  x: dict[str, Any] | str | None = None\n"
    found = [Classes(Fake({"a.py": text}), ["a.py"]).fields("A") for text in (old, new)]
    assert found[0] == found[1]


def test_versions_fold_to_what_changed() -> None:
    one, two = {"a": {"default": 1, "help": "x"}, "b": 1}, {"a": {"default": 1, "help": "y"}, "c": 2}
    assert timelines.fold([("1", one), ("2", two), ("3", {"b": 1, **two})]) == {
        "a": {"1": {"default": 1}},
        "b": {"1": 1, "2": None, "3": 1},
        "c": {"2": 2},
    }
    assert timelines.helps([("1", one), ("2", two)]) == {"a": "y"}


def test_templates_models_and_checks_of_the_engine() -> None:
    package = Fake(
        {
            "llamafactory/data/template.py": 'register_template(name="t", template_class=ReasoningTemplate, '
            'efficient_eos=True, mm_plugin=get_mm_plugin(name="p"))\n_register_template(name="old")\n',
            "llamafactory/extras/constants.py": "METHODS = ['lora']\nclass Rope(Enum):\n    A = 'a'\n"
            "register_model_group(models={'M': {S.D: 'x/M-1B', S.M: 'y/M-1B'}}, template='t')\n",
            "llamafactory/extras/misc.py": "def f():\n    check_version('peft>=1,<=2')\n",
            "llamafactory/model/x.py": "def f():\n    require_version('peft>=0.1', '')\n    check_version('mix>1')\n",
        }
    )
    found = tables(package)
    assert found["templates"] == {"t": {"reasoning": True, "efficient_eos": True, "plugin": "p"}, "old": {}}
    assert found["models"] == {"x/M-1B": "t", "y/M-1B": "t"}
    assert (found["constants"], found["enums"]) == ({"METHODS": ["lora"]}, {"Rope.a": {}})
    assert found["checks"] == {
        "peft": {"requires": ">=1,<=2"},
        "mix": {"requires": ">1", "file": "llamafactory/model/x.py"},
    }


def test_pins_of_metadata_and_check() -> None:
    head = (
        "Requires-Dist: peft<=1.5,>=1\nRequires-Dist: x<1; python_version < '3.9'\nRequires-Dist: y; extra == 'z'\n\n"
    )
    package = Fake({}, head)
    package.name = "llamafactory"
    found = pins(package, {"Peft": {"requires": ">=1,<=2"}})
    assert found == {"peft": {"metadata": "<=1.5,>=1", "check": ">=1,<=2"}, "y": {"metadata": "", "extra": "z"}}
    assert newest(found["peft"], ["0.9.0", "1.2.0", "1.9.0"]) == "1.2.0"
