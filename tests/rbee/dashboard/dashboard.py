"""The dashboard in a real browser: sign in, submit, watch, cancel, retry, and look at every page."""

import json
import os
import shutil
import sys

from playwright.sync_api import expect, sync_playwright

base = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
link, prompts = sys.argv[1:]
name = os.path.basename(prompts)
chromium = shutil.which("chromium")
assert chromium, "chromium is on PATH: `cargo xtask test` installs it"
quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(180_000)
    expect.set_options(timeout=180_000)
    troubles, elsewhere = [], []

    def listen(page):
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(base) or elsewhere.append(request.url))

    listen(page)

    # Nobody sees anything without a token, and a wrong one opens nothing.
    assert page.goto(base).status == 401
    page.get_by_label("Token").fill("guess")
    page.get_by_role("button", name="Open the dashboard").click()
    expect(page.get_by_role("alert")).to_contain_text("not a token")
    page.goto(link)
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()
    page.goto(base)

    # Submit, and watch tokens arrive.
    page.get_by_text("Submit a file").click()
    page.get_by_label("Prompts").set_input_files(prompts)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    text = page.locator(".tokens").first
    expect(text).not_to_be_empty()
    before = len(text.text_content())
    page.wait_for_function("([at]) => document.querySelector('.tokens')?.textContent.length > at", arg=[before])
    # The line that is no request is there with its error.
    expect(page.get_by_role("cell", name="invalid_json")).to_be_visible()

    # Lines and answers by number.
    page.get_by_text("Lines and answers").click()
    expect(page.get_by_text("Jobs 0 to")).to_be_visible()

    # Cancel, then run again what has no answer.
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It is cancelled.")).to_be_visible()
    retry = page.get_by_role("button", name="Retry failed jobs")
    expect(retry).to_be_visible()
    retry.click()
    expect(page.get_by_text("jobs run again")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused: somebody")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()

    # One job, as it grows.
    page.locator(".jobs a").first.click()
    expect(page.get_by_role("heading", name="Text")).to_be_visible()
    expect(page.locator(".tokens-live")).not_to_be_empty()

    # The other pages, by keyboard.
    page.keyboard.press("Tab")
    for name_of, seen in [("Nodes", "local"), ("Schedules", "There is no schedule"), ("Activity", "Generated tokens")]:
        there = page.get_by_role("navigation").get_by_role("link", name=name_of)
        there.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=name_of)).to_be_visible()
        expect(page.get_by_text(seen).first).to_be_visible()
        assert page.evaluate("document.activeElement.id") == "view"

    # On a phone in the dark nothing is wider than the screen.
    phone = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark", storage_state=context.storage_state())
    small = phone.new_page()
    listen(small)
    for path in ["batches", "nodes", "schedules", "activity"]:
        small.goto(f"{base}/#/{path}")
        expect(small.locator("h1")).to_be_visible()
        small.wait_for_load_state("networkidle") if path == "schedules" else None
        wider = small.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{path} is {wider} pixels wider than a phone"

    # Every control has a name that a screen reader can tell.
    nameless = page.evaluate("""() => [...document.querySelectorAll('a, button, input')]
        .filter((e) => !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label')))
        .map((e) => e.outerHTML)""")
    assert not nameless, nameless

    page.get_by_role("button", name="Sign out").click()
    assert page.goto(base).status == 401
    assert not troubles, troubles
    assert not elsewhere, elsewhere
    print(json.dumps({"ok": True}))
