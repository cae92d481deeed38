"""Files and functions stay small enough to be read at one sitting."""

from statistics import median

from tests.repo.source import function_lines, functions, length, name, python_files

FILE_LINES = 600
MEDIAN_LINES = 200
FUNCTION_LINES = 60
KERNEL_LINES = 1000

# May only shrink.
LONG_FILES: frozenset[str] = frozenset()
LONG_FUNCTIONS: frozenset[str] = frozenset()


def test_no_file_is_longer_than_600_lines() -> None:
    long = {name(file): length(file) for file in python_files("src", "tests", "tools", "bench")}
    assert {file: lines for file, lines in long.items() if lines > FILE_LINES and file not in LONG_FILES} == {}


def test_the_median_file_has_at_most_200_lines() -> None:
    assert median(length(file) for file in python_files("src")) <= MEDIAN_LINES


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{name(file)}:{function.lineno} {function.name}": function_lines(function)
        for file in python_files("src", "tests", "tools", "bench")
        for function in functions(file)
        if function_lines(function) > FUNCTION_LINES
    }
    assert {where: lines for where, lines in long.items() if where not in LONG_FUNCTIONS} == {}


def test_the_kernel_has_less_than_1000_lines() -> None:
    assert sum(length(file) for file in python_files("src/atoll/core")) < KERNEL_LINES
