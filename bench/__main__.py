"""`python -m bench NAME [--size …]`: run benchmarks, print a table, keep the figures, render the page."""

import argparse
import importlib
import importlib.util
import sys
import time
import traceback

from bench import NAMES
from bench.harness import BenchError, Report
from bench.render import table, write_page


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments name. Returns 0, or 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Our figures beside peers and limits.")
    parser.add_argument("name", choices=[*NAMES, "all", "render"], help="a benchmark, all of them, or only the page")
    parser.add_argument("--size", default="small", help="small (default), medium, large or what the benchmark offers")
    options = parser.parse_args(arguments)
    failed = []
    if options.name != "render":
        failed = [name for name in (NAMES if options.name == "all" else [options.name]) if not run(name, options.size)]
    if options.name in ("all", "render"):
        print(f"docs: {write_page()}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, size: str) -> bool:
    """Run one benchmark at one size. Returns whether it ended well."""
    if importlib.util.find_spec(f"bench.{name}") is None:
        print(f"{name}: bench/{name}.py does not exist", file=sys.stderr)
        return False
    module = importlib.import_module(f"bench.{name}")
    if size not in module.SIZES:
        print(f"{name}: no size {size!r}; it offers {', '.join(module.SIZES)}", file=sys.stderr)
        return False
    print(f"{name} ({size}): {getattr(module, 'TITLE', '')}", flush=True)
    start = time.perf_counter()
    report = Report(name, size, on_row=lambda row: print(f"  {row.what}: {row.ours:.4g} {row.unit}", flush=True))
    try:
        module.run(size, report)
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    except Exception:
        traceback.print_exc()
        return False
    finally:
        if report.rows:
            print(table(report.rows))
        print(f"{name} ({size}): {time.perf_counter() - start:.1f} s in all\n", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
