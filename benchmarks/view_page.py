"""The page of ``hardquery view`` in headless Chromium: what axe finds, what an action costs, and pictures of it.

    python benchmarks/view_page.py OUT [--axe axe.min.js] [--pictures DIR] [--chromium /usr/bin/chromium]

Needs ``pip install playwright axe-core-python`` and a Chromium; no part of the test suite.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

SIZES = {"wide": (1400, 900), "phone": (390, 844)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with hardquery")
    parser.add_argument("--axe", type=Path, default=None)
    parser.add_argument("--pictures", type=Path, default=None)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--address", default=None, help="a page to look at, instead of a server's")
    arguments = parser.parse_args()
    axe = (arguments.axe or Path(util.find_spec("axe_core_python").origin).parent / "axe.min.js").read_text()
    command = [arguments.python, "-m", "runners", "view", arguments.output, "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = 0
    try:
        url = arguments.address or server.stdout.readline().strip()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            for size, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    view = {"width": width, "height": height}
                    page = browser.new_page(viewport=view, color_scheme=scheme, bypass_csp=True)
                    found += look(page, url, axe, f"{size}-{scheme}", arguments.pictures)
                    page.close()
            browser.close()
    finally:
        server.terminate()
    return min(found, 1)


def look(page: Page, url: str, axe: str, name: str, pictures: Path | None) -> int:
    """Open list, group and help; count what axe finds in each."""
    failed: list[str] = []
    page.set_default_timeout(120_000)
    page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#rows a, .group")
    violations = checked(page, axe, f"{name}-list", pictures)
    if page.locator("#rows a").count():
        page.locator("#rows a").first.click()
        page.wait_for_selector(".candidate .strip img")
        page.wait_for_load_state("networkidle")
        violations += checked(page, axe, f"{name}-group", pictures)
        page.keyboard.press("?")
        violations += checked(page, axe, f"{name}-help", pictures)
    for line in failed:
        print(f"{name}: {line}")
    return violations + len(failed)


def checked(page: Page, axe: str, name: str, pictures: Path | None) -> int:
    page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("axe.run()")
    for violation in found["violations"]:
        print(
            f"{name}: {violation['id']} ({violation['impact']}), {len(violation['nodes'])} times: {violation['help']}"
        )
        for node in violation["nodes"][:4]:
            print(f"    {node['target']} {node['html'][:120]} {node['any'][:1]}")
    sideways = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    if sideways:
        print(f"{name}: the page scrolls sideways")
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"{name}.png", full_page=name.endswith("group"))
    print(f"{name}: {len(found['passes'])} rules hold, {len(found['violations'])} are broken")
    return len(found["violations"]) + bool(sideways)


if __name__ == "__main__":
    sys.exit(main())
