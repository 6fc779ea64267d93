# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium for tests of pages."""

import contextlib
import shutil
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from server import PATIENCE

CHROMIUM = '/usr/bin/chromium'
DRIVER = '/usr/bin/chromedriver'
OPTIONS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
           '--disable-background-networking', '--disable-component-update', '--disable-extensions',
           '--force-color-profile=srgb', '--window-size=1200,1100')


@contextlib.contextmanager
def browser():
    """A browser with a profile of its own; nothing of it is left."""
    profile = tempfile.mkdtemp(prefix='opb-browser-')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS + ('--user-data-dir=' + profile,):
        options.add_argument(option)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    try:
        driver.set_page_load_timeout(60 * PATIENCE)
        driver.set_script_timeout(60 * PATIENCE)
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def console(driver):
    """What the page, or the browser about it, has said: errors, refused resources."""
    return [entry['message'] for entry in driver.get_log('browser')]
