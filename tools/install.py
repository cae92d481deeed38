"""Make .venv and install Atoll into it: `python3 tools/install.py [EXTRA]`.

Runs on any Python 3.6+, so that an old one can be told what is missing.
"""

import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
OLDEST, NEWEST = (3, 11), (3, 13)


def main():
    extra = sys.argv[1] if len(sys.argv) > 1 else ""
    python = suitable()
    if python is None:
        return say(
            f"Atoll needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]} and no other was found. "
            "Install one and run: make PYTHON=python3.12 ..."
        )
    if not os.path.exists(PYTHON) or not works(PYTHON):
        shutil.rmtree(VENV, ignore_errors=True)
        made = subprocess.run([python, "-m", "venv", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if made.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            print(made.stdout.decode(errors="replace").strip())
            return say(f"{python} cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv")
    what = f".[{extra}]" if extra else "."
    print(f"Installing Atoll into .venv ({what}): a minute or so the first time …", flush=True)
    start = time.time()
    install = [PYTHON, "-m", "pip", "install", "--quiet", "--editable", what]
    done = subprocess.run(install, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print(done.stdout.decode(errors="replace").strip())
        return say(
            "pip could not install Atoll. Without internet, point pip to a mirror (PIP_INDEX_URL) and try again."
        )
    print(f"Installed in {time.time() - start:.0f} s.", flush=True)
    for stamp in {"core", extra or "core"}:
        with open(os.path.join(VENV, "." + stamp), "w") as file:
            file.write(time.strftime("%Y-%m-%dT%H:%M:%S\n"))
    return 0


def suitable():
    """The running interpreter if it is of a supported version, else one found on PATH, else None."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and works(found):
            return found
    return None


def works(python):
    """Whether it starts and is of a supported version."""
    code = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def say(problem):
    print(problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
