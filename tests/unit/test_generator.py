# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator: golden outputs, refusals, and the names of the real header.

Run by ctest with the environment OPB_SDK_HEADER; without it by hand, for the installed one.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "protocol" / "generator"
FIXTURE = ROOT / "tests" / "unit" / "fixtures" / "orthanc" / "OrthancCPlugin.h"
GOLDEN = ROOT / "tests" / "golden" / "generator"
INVENTORY = ROOT / "tests" / "golden" / "inventory.txt"
SDK_HEADER = Path(os.environ.get("OPB_SDK_HEADER", "/usr/include/orthanc/OrthancCPlugin.h"))

sys.dont_write_bytecode = True
sys.path.insert(0, str(GENERATOR))

import annotations  # noqa: E402
import exceptions  # noqa: E402
from classify import build_model  # noqa: E402
from doxygen import parse_comment  # noqa: E402
from generate import generate  # noqa: E402
from model import GeneratorError, Model, value_name, version_number, version_text  # noqa: E402
from parse import parse_header  # noqa: E402

ALL = ["classes", "dispatch", "json", "module", "reference", "stubs"]


def files_below(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8")
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


class Golden(unittest.TestCase):
    maxDiff = 4000

    def test_the_small_header_gives_the_golden_files(self) -> None:
        made, golden = generate(FIXTURE, ALL), files_below(GOLDEN)
        hint = "if this change is meant: cmake --build BUILD --target update-golden"
        self.assertEqual(sorted(made), sorted(golden), hint)
        for name in golden:
            self.assertEqual(made[name], golden[name], f"{name}: {hint}")

    def test_equal_input_gives_equal_bytes_wherever_it_lies(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory) / "OrthancCPlugin.h"
            copy.write_bytes(FIXTURE.read_bytes())
            self.assertEqual(generate(copy, ALL), generate(FIXTURE, ALL))

    def test_the_first_line_names_model_and_script_and_no_version(self) -> None:
        for name, text in generate(FIXTURE, ALL).items():
            first = text.splitlines()[1 if name.endswith(".json") else 0]
            self.assertIn("OrthancCPlugin.h", first, name)
            self.assertIn("protocol/generator/generate.py", first, name)
            self.assertNotRegex(first, r"\d", name)

    def test_the_command_line_writes_the_same_files(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            command = [sys.executable, "-B", str(GENERATOR / "generate.py"), "--header", str(FIXTURE)]
            subprocess.run([*command, "--output-dir", directory], check=True)
            self.assertEqual(files_below(Path(directory)), files_below(GOLDEN))


class Refusals(unittest.TestCase):
    """A header that the generator does not understand stops the build, and says why."""

    def refusal(self, added: str = "", replace: tuple[str, str] | None = None) -> str:
        text = FIXTURE.read_text(encoding="utf-8")
        if replace:
            self.assertIn(replace[0], text)
            text = text.replace(*replace)
        with tempfile.TemporaryDirectory() as directory:
            header, out = Path(directory) / "OrthancCPlugin.h", Path(directory) / "out"
            header.write_text(text + added, encoding="utf-8")
            command = [sys.executable, "-B", str(GENERATOR / "generate.py"), "--header", str(header)]
            run = subprocess.run(
                [*command, "--output-dir", str(out)], capture_output=True, text=True, check=False
            )
            self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
            self.assertFalse(out.exists(), "nothing is written when the header is refused")
            self.assertNotIn("Traceback", run.stderr)
            return run.stderr

    def refused_function(self, parameters: str, result: str = "void", body: str = "{ }") -> str:
        line = len(FIXTURE.read_text(encoding="utf-8").splitlines()) + 1
        text = self.refusal(f"static inline {result} OrthancPluginStrange({parameters}) {body}\n")
        self.assertIn(f"OrthancCPlugin.h:{line}: OrthancPluginStrange cannot be wrapped", text)
        self.assertIn("add it to CUSTOM in protocol/generator/exceptions.py", text)
        self.assertIn("NOT_WRAPPED", text)
        return text

    def test_a_callback_parameter(self) -> None:
        text = self.refused_function("OrthancPluginContext *context, OrthancPluginRestCallback run")
        self.assertIn('the type "OrthancPluginRestCallback" of its parameter "run"', text)

    def test_an_output_pointer(self) -> None:
        text = self.refused_function("OrthancPluginContext *context, uint32_t *count")
        self.assertIn('"uint32_t *" of its parameter "count"', text)

    def test_a_structure(self) -> None:
        text = self.refused_function("OrthancPluginContext *context, OrthancPluginMemoryBuffer in")
        self.assertIn("follows no pattern", text)

    def test_a_pointer_whose_length_nobody_knows(self) -> None:
        text = self.refused_function("OrthancPluginContext *context, const void *bytes")
        self.assertIn('nothing says how many bytes its parameter "bytes" points at', text)

    def test_a_buffer_that_is_filled_without_an_error_code(self) -> None:
        text = self.refused_function("OrthancPluginContext *context, OrthancPluginMemoryBuffer *target")
        self.assertIn("does not return a OrthancPluginErrorCode", text)

    def test_a_result_without_a_pattern(self) -> None:
        text = self.refused_function("OrthancPluginContext *context", "void *", "{ return NULL; }")
        self.assertIn('its result type "void *" follows no pattern', text)

    def test_a_function_without_a_context(self) -> None:
        self.assertIn("first parameter", self.refused_function("int number"))

    def test_a_function_without_a_body(self) -> None:
        text = self.refusal("void OrthancPluginStrange(OrthancPluginContext *context);\n")
        self.assertIn("declared but not defined", text)

    def test_a_new_object_that_nobody_can_free(self) -> None:
        text = self.refusal(
            "static inline OrthancPluginStorageArea *OrthancPluginStrange("
            "OrthancPluginContext *context) { return NULL; }\n"
        )
        self.assertIn("the header has no OrthancPluginFreeStorageArea() to end it", text)

    def test_a_constant_that_nobody_can_remember(self) -> None:
        text = self.refusal(
            "static inline OrthancPluginErrorCode OrthancPluginGetInstanceOrigin(OrthancPluginContext *context, "
            "const OrthancPluginDicomInstance *instance) { return OrthancPluginErrorCode_Success; }\n"
        )
        self.assertIn("the result of OrthancPluginGetInstanceOrigin cannot be remembered", text)

    def test_two_functions_with_one_name(self) -> None:
        text = self.refusal(
            "static inline void OrthancPluginIsMatch(OrthancPluginContext *context, "
            "OrthancPluginFindMatcher *matcher) { }\n"
        )
        self.assertIn("would both be called orthanc.FindMatcher.IsMatch", text)

    def test_an_enumeration_value_with_a_foreign_name(self) -> None:
        text = self.refusal("typedef enum { OrthancPluginOther_One = 1 } OrthancPluginSome;\n")
        self.assertIn("the value OrthancPluginOther_One = 1 of OrthancPluginSome has no name", text)

    def test_a_memory_buffer_of_another_shape(self) -> None:
        text = self.refusal(replace=("    uint32_t size;\n", "    uint64_t size;\n"))
        self.assertIn("OrthancPluginMemoryBuffer is not", text)

    def test_a_header_that_does_not_compile(self) -> None:
        self.assertIn("the header does not compile", self.refusal("int int;\n"))

    def test_a_header_without_a_version(self) -> None:
        text = self.refusal(replace=("MINIMAL_MINOR_NUMBER", "MINIMAL_OTHER_NUMBER"))
        self.assertIn("ORTHANC_PLUGINS_MINIMAL_MINOR_NUMBER is not defined", text)

    def test_a_header_that_is_not_there(self) -> None:
        with self.assertRaisesRegex(GeneratorError, "no such header. Install orthanc-dev"):
            generate(Path("/nonexistent/OrthancCPlugin.h"), ALL)

    def test_all_problems_are_told_at_once(self) -> None:
        one = "static inline void OrthancPlugin{}(OrthancPluginContext *context, char **x) {{ }}\n"
        text = self.refusal(one.format("First") + one.format("Second"))
        self.assertIn("OrthancPluginFirst cannot be wrapped", text)
        self.assertIn("OrthancPluginSecond cannot be wrapped", text)


class Names(unittest.TestCase):
    def test_an_underscore_stands_only_between_a_small_letter_and_a_capital(self) -> None:
        for c_name, python in {
            "SignedGrayscale16": "SIGNED_GRAYSCALE16",
            "NoCFindHandler": "NO_CFIND_HANDLER",
            "NoSopClassOrInstance": "NO_SOP_CLASS_OR_INSTANCE",
            "ReferencedSOPClassNotSupported": "REFERENCED_SOPCLASS_NOT_SUPPORTED",
            "SQLiteNotOpened": "SQLITE_NOT_OPENED",
            "CreateDicomUseDataUriScheme": "CREATE_DICOM_USE_DATA_URI_SCHEME",
            "WebDav": "WEB_DAV",
            "Grayscale8": "GRAYSCALE8",
            "RGBA32": "RGBA32",
        }.items():
            self.assertEqual(value_name(c_name), python)

    def test_a_version_is_one_number(self) -> None:
        self.assertEqual(version_number("1.12.6"), 1012006)
        self.assertEqual(version_text(1012006), "1.12.6")
        self.assertEqual((version_number(""), version_text(0)), (0, ""))
        self.assertRaises(GeneratorError, version_number, "1.12")

    def test_a_comment_becomes_plain_text(self) -> None:
        doc = parse_comment("/**\n * @brief One\n * line.\n *\n * More.\n * @param x The\n * x.\n * @return 3\n **/")
        self.assertEqual((doc.brief, doc.details, doc.params, doc.returns), ("One line.", "More.", (("x", "The x."),), "3"))
        self.assertEqual(parse_comment(None).brief, "")


class Growth(unittest.TestCase):
    """Which classes may lack methods on a server that has the class."""

    def test_the_classes_that_got_methods_later_are_known_with_the_last_version(self) -> None:
        rows = [line.split() for line in INVENTORY.read_text().splitlines() if not line.startswith("#")]
        since = {row[2]: version_number(row[0].strip("-?")) for row in rows if row[1] in ("class", "method")}
        grown: dict[str, int] = {}
        for name in since:
            of_class = name.partition(".")[0]
            if since[name] > max(since[of_class], version_number("1.10.1")):
                grown[of_class] = max(grown.get(of_class, 0), since[name])
        self.assertEqual(grown, {name: version_number(text) for name, text in exceptions.GROWN.items()})


class RealHeader(unittest.TestCase):
    """The header that the bridge is built with, against the inventory of the contract."""

    model: Model
    files: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        if not SDK_HEADER.is_file():
            raise unittest.SkipTest(f"{SDK_HEADER} is not installed")
        cls.model = build_model(parse_header(SDK_HEADER))
        cls.files = generate(SDK_HEADER, ALL)
        cls.expected = {}
        for line in INVENTORY.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                since, kind, name, value = line.split(" ")
                cls.expected[name] = (since, kind, value)

    def found(self) -> dict[str, tuple[int, str, str]]:
        out: dict[str, tuple[int, str, str]] = {}
        for f in self.model.functions:
            kind = "method" if f.class_name else "function"
            out[f.full_name] = (f.since, kind, f.signature if f.on_node else "-")
        for c in self.model.classes:
            out[c.name] = (c.since, "class", "-")
        for e in self.model.enumerations:
            out[e.name] = (e.since, "enumeration", "-")
            for v in e.values:
                out[f"{e.name}.{v.name}"] = (v.since, "value", str(v.value))
        return out

    def test_every_name_of_this_sdk_is_there_with_its_signature_and_age(self) -> None:
        found = self.found()
        for name, (since, kind, value) in self.expected.items():
            age = 0 if since in "-?" else version_number(since)
            if age > self.model.sdk_version or (since == "?" and name not in found):
                continue
            with self.subTest(name):
                self.assertIn(name, found)
                owner = self.expected.get(name.partition(".")[0], ("-",))[0]
                age = max(age, 0 if owner in "-?" else version_number(owner))
                self.assertEqual(found[name], (age, kind, value))

    def test_there_is_no_name_that_the_contract_does_not_know(self) -> None:
        newest = max(version_number(s) for s, _, _ in self.expected.values() if s not in "-?")
        for name, (since, _, _) in self.found().items():
            if name in self.expected or name in ("GetWorkerIndex", "GetWorkersCount"):
                continue  # the bridge's own
            with self.subTest(name):
                self.assertGreater(max(since, self.model.sdk_version), newest, "an extension comes from a newer SDK")

    def test_a_name_is_not_offered_before_the_sdk_that_brought_it(self) -> None:
        for name, (since, _, _) in self.found().items():
            self.assertLessEqual(since, self.model.sdk_version, name)

    def test_the_protected_functions_and_those_that_need_the_server_are_marked(self) -> None:
        by_name = {f.c_name: f for f in self.model.functions}
        for bare in annotations.PROTECTED:
            if f := by_name.get("OrthancPlugin" + bare):
                self.assertTrue(f.is_protected, bare)
                self.assertRegex(self.files["sdk_dispatch.gen.c"], rf'\{{"{f.full_name}".*OPB_SDK_PROTECTED')
        for bare in annotations.NEEDS_SERVER:
            if f := by_name.get("OrthancPlugin" + bare):
                self.assertRegex(self.files["sdk_dispatch.gen.c"], rf'\{{"{f.full_name}".*OPB_SDK_NEEDS_SERVER')

    def test_what_is_constant_is_marked_at_both_ends(self) -> None:
        constant = {f.full_name: f for f in self.model.functions if f.is_constant}
        self.assertEqual(
            {f.c_name.removeprefix("OrthancPlugin") for f in constant.values()},
            annotations.CONSTANT & {f.c_name.removeprefix("OrthancPlugin") for f in self.model.functions},
        )
        rows = re.findall(r'^    \{"([\w.]+)", "', self.files["sdk_dispatch.gen.c"], re.M)
        numbers = re.findall(r"OPB_FACT_(\w+) = (\d+),", self.files["sdk_facts.gen.h"])
        self.assertEqual({rows[int(n)] for name, n in numbers if name != "NONE"}, set(constant))
        for name, number in numbers:
            if name != "NONE":
                self.assertEqual(rows[int(number)].replace(".", "_"), name)
        marked = re.findall(r'\.node_name = "([\w.]+)",(?:(?!\.node_name)[\s\S])*?\.is_constant = 1,', self.files["orthanc_module.gen.c"])
        self.assertEqual(set(marked), set(constant))

    def test_both_ends_have_the_same_signature_for_each_function(self) -> None:
        node = dict(re.findall(r'^    \{"([\w.]+)", "([^"]*)", \d+', self.files["sdk_dispatch.gen.c"], re.M))
        host = dict(re.findall(r'\.node_name = "([\w.]+)",\n        \.signature = "([^"]*)"', self.files["orthanc_module.gen.c"]))
        self.assertEqual(node.pop("_Register"), "x")
        self.assertEqual(node.pop("_Release"), "x")
        self.assertEqual(node.pop("_Fence"), "x")
        self.assertEqual(node, host)

    def test_every_exception_has_a_reason_and_none_is_listed_twice(self) -> None:
        both = set(exceptions.NOT_WRAPPED) & {c.c_name for c in exceptions.CUSTOM.values()}
        self.assertEqual(both, set())
        for name, reason in exceptions.NOT_WRAPPED.items():
            self.assertGreater(len(reason), 10, name)

    def test_the_stubs_are_python_and_have_every_name(self) -> None:
        tree = ast.parse(self.files["orthanc-stubs/__init__.pyi"])
        names = set()
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
                self.assertTrue(ast.get_docstring(node) or node.name.startswith("_"), node.name)
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef):
                        names.add(f"{node.name}.{item.name}")
                    elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        names.add(f"{node.name}.{item.target.id}")
        self.assertEqual(set(self.found()) - names, set())

    def test_the_reference_has_every_name(self) -> None:
        text = self.files["api-reference.md"]
        for name, (_, kind, _) in self.found().items():
            expected = f"`{name.partition('.')[2]}`" if kind == "value" else f"# {name}\n".replace("_", "\\_")
            self.assertIn(expected, text)


if __name__ == "__main__":
    unittest.main()
