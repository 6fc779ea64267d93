# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page, in a real browser (docs/admin-api.md).

OPB_TEST_SCREENSHOT=FILE    keeps a picture of the page, for the documentation
"""

import os
import re
import threading
import urllib.parse

import pytest
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from browser import browser, console
from server import PATIENCE, REPOSITORY, status, wait_until, write
from test_admin import SCRIPT

pytestmark = pytest.mark.ours

HOSTILE = r'''
TEXTS = ['<script>window.owned = 1; alert(1)</script>',
         '<img src=x onerror="window.owned = 2">',
         '"><svg onload="window.owned = 3">',
         "javascript:window.owned=4//'`${window.owned=5}`",
         '</pre></script></style><h1 id=owned>']
def hostile(output, uri, **request):
    raise RuntimeError(TEXTS[int(request['groups'][0])])
def named(output, uri, **request):
    raise RuntimeError('named')
orthanc.RegisterRestCallback('/hostile/(.*)', hostile)
orthanc.RegisterRestCallback('/(<script>window.owned = 6</script>|<img src=x onerror=owned.7>.*)', named)
'''

WIDE = r'''
def wide(output, uri, **request):
    raise KeyError('x' * 3000)
orthanc.RegisterRestCallback('/wide', wide)
'''
FILTER = r'''
forbidden = []
def decide(uri, **request):
    return not any(uri.startswith(each) for each in forbidden)
def forbid(output, uri, **request):
    forbidden.append('/python-bridge/' + request['groups'][0])
    output.AnswerBuffer('', 'text/plain')
orthanc.RegisterIncomingHttpRequestFilter(decide)
orthanc.RegisterRestCallback('/forbid/(.*)', forbid)
'''


@pytest.fixture(scope='module')
def driver():
    with browser() as started:
        yield started


def text_of(driver, place):
    return driver.find_element(By.ID, place).text


def number(driver, title):
    """One of the numbers at the top."""
    for element in driver.find_elements(By.CLASS_NAME, 'number'):
        value, name = element.text.split('\n')
        if name == title:
            return value
    return None


def refreshes(driver):
    return int(driver.execute_script('return document.body.dataset.refreshed || "0"'))


def open_page(driver, server, path='/python-bridge'):
    driver.get(server.url(path))
    wait_until(lambda: refreshes(driver) >= 1, 30, 'the first status')
    console(driver)     # what comes from here on is of this page


def await_refresh(driver):
    before = refreshes(driver)
    wait_until(lambda: refreshes(driver) > before, 30, 'the next status')


def rows(driver, place):
    return [row.text for row in driver.find_elements(By.CSS_SELECTOR, '#%s tbody tr' % place)]


@pytest.mark.parametrize('path', ['/python-bridge', '/python-bridge/'])
def test_the_page_is_one_answer_with_a_strict_policy(orthanc, path):
    server = orthanc(script=SCRIPT)
    answer = server.get(path)
    assert answer.status_code == 200 and answer.headers['Content-Type'] == 'text/html; charset=utf-8'
    policy = dict(part.strip().split(' ', 1) for part in answer.headers['Content-Security-Policy'].split(';'))
    assert policy['default-src'] == policy['base-uri'] == policy['form-action'] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy['script-src'])
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy['style-src'])
    assert policy['connect-src'] == "'self'" and 'unsafe' not in str(policy)
    assert answer.headers['X-Content-Type-Options'] == 'nosniff'
    text = answer.text
    assert 'http:' not in text.replace('http://www.w3.org/2000/svg', '') and 'https:' not in text
    assert not re.search(r'\b(src|@import|url\()', text.replace('src ', ''))
    assert 'innerHTML' not in text and 'eval(' not in text and '@s' not in text
    assert server.post(path).status_code == 405


def test_the_page_shows_the_status_and_refreshes_itself(orthanc, driver):
    server = orthanc(script=SCRIPT, python={'Workers': 2, 'NodeName': 'first'})
    for _ in range(3):
        server.get('/hello')
    open_page(driver, server)
    found = status(server)
    assert text_of(driver, 'node') == 'first'
    assert number(driver, 'hosts serve') == '2' and number(driver, 'generation') == '1'
    assert number(driver, 'calls') == '3' and number(driver, 'restarts') == '0'
    assert [row.split()[:3] for row in rows(driver, 'hosts')] == [
        [str(host['Worker']), str(host['Pid']), 'serving'] for host in found['Hosts']]
    (rest,) = rows(driver, 'callbacks')
    assert re.match(r'Rest 3 [0-9.]+ 0 0 0 0 [0-9.]+ [mµ]?s ', rest), rest
    (route,) = rows(driver, 'routes')
    assert route.startswith('/hello 3 ')
    assert text_of(driver, 'exceptions') == 'None.' and not driver.find_element(By.ID, 'problems').is_displayed()
    assert found['Script'] in text_of(driver, 'versions')
    server.get('/hello')
    await_refresh(driver)
    await_refresh(driver)
    assert number(driver, 'calls') == '4'
    assert console(driver) == []
    names = driver.execute_script('return performance.getEntriesByType("resource").map(each => each.name)')
    assert set(names) == {server.url('/python-bridge/status')}


def test_the_page_draws_latency_rate_and_restarts(orthanc, driver):
    server = orthanc(script=SCRIPT)
    server.get('/slow/0.3')
    server.get('/die')
    wait_until(lambda: status(server)['Hosts'], 30, 'the next host')
    open_page(driver, server, '/python-bridge/')
    await_refresh(driver)
    await_refresh(driver)
    assert Select(driver.find_element(By.ID, 'kind')).first_selected_option.text == 'Rest'
    for name in ('p50', 'p95', 'p99'):
        points = driver.find_element(By.CSS_SELECTOR, '#latency polyline.' + name).get_attribute('points').split()
        assert len(points) >= 3, name
        assert all(44 <= float(x) <= 394 and 8 <= float(y) <= 132 for x, y in (point.split(',') for point in points))
    assert len(driver.find_elements(By.CSS_SELECTOR, '#rate polyline')) == 1
    (bar,) = driver.find_elements(By.CSS_SELECTOR, '#restarts rect')
    assert float(bar.get_attribute('height')) > 10
    labels = [each.text for each in driver.find_elements(By.CSS_SELECTOR, '#latency text')]
    assert '500 ms' in labels and 'now' in labels
    assert console(driver) == []


def test_the_page_shows_exceptions_with_their_tracebacks(orthanc, driver):
    server = orthanc(script=SCRIPT)
    server.get('/broken')
    open_page(driver, server)
    (shown,) = driver.find_elements(By.CSS_SELECTOR, '#exceptions details')
    assert 'REST callback for GET /broken: <class \'KeyError\'>' in shown.text
    assert text_of(driver, 'exception-count') == '(1 since the start)'
    shown.find_element(By.TAG_NAME, 'summary').click()
    assert 'in inner' in shown.find_element(By.TAG_NAME, 'pre').text
    server.get('/broken')
    wait_until(lambda: len(driver.find_elements(By.CSS_SELECTOR, '#exceptions details')) == 2, 30, 'the second one')
    newest, oldest = driver.find_elements(By.CSS_SELECTOR, '#exceptions details')
    assert oldest.get_attribute('open') and not newest.get_attribute('open')    # what one reads stays


def test_what_one_reads_stays_selected_focused_and_scrolled(orthanc, driver):
    server = orthanc(script=SCRIPT + WIDE)
    server.get('/die')
    wait_until(lambda: status(server)['Hosts'], 30, 'the next host')
    write(server, 'def f(:\n')
    assert server.post('/python-bridge/reload').status_code == 500
    server.get('/wide')
    open_page(driver, server)
    driver.execute_script('''
        const details = document.querySelector('#exceptions details');
        details.open = true;
        details.querySelector('summary').focus();
        details.querySelector('pre').scrollLeft = 200;
        getSelection().selectAllChildren(details.querySelector('pre'));''')

    def selected():
        return driver.execute_script('return getSelection().toString()')

    def refresh_twice():
        await_refresh(driver)
        await_refresh(driver)

    assert 'KeyError' in selected()
    count = len(driver.find_elements(By.CSS_SELECTOR, '#exceptions details'))
    server.get('/wide')
    wait_until(lambda: len(driver.find_elements(By.CSS_SELECTOR, '#exceptions details')) > count, 30, 'the next one')
    refresh_twice()
    assert 'KeyError' in selected()
    assert driver.execute_script('''
        const details = document.querySelector('#exceptions details:nth-child(2)');
        return [details.open, document.activeElement === details.querySelector('summary'),
                details.querySelector('pre').scrollLeft]''') == [True, True, 200]
    for place, text in (('problems', 'SyntaxError'), ('generations', 'SyntaxError'), ('deaths', 'exit code 3')):
        driver.execute_script('''
            for (const each of document.querySelectorAll('details')) each.open = true;
            const text = document.createTreeWalker(document.getElementById(arguments[0]), NodeFilter.SHOW_TEXT);
            while (!text.nextNode().data.includes(arguments[1])) {}
            getSelection().selectAllChildren(text.currentNode.parentNode)''', place, text)
        refresh_twice()
        assert text in selected(), place


def test_what_scripts_say_is_text(orthanc, driver):
    server = orthanc(script=SCRIPT + HOSTILE)
    for number_ in range(5):
        assert server.get('/hostile/%d' % number_).status_code == 500
    for path in ('/<script>window.owned = 6</script>', '/<img src=x onerror=owned=7>'):
        assert server.get(urllib.parse.quote(path)).status_code == 500
    write(server, "raise ValueError('<img src=x onerror=\"window.owned = 8\"><script>window.owned = 9</script>')\n")
    assert server.post('/python-bridge/reload').status_code == 500
    open_page(driver, server)
    await_refresh(driver)
    driver.execute_script('for (const each of document.querySelectorAll("summary")) each.click()')
    driver.find_element(By.ID, 'reload').click()
    wait_until(lambda: 'window.owned = 8' in text_of(driver, 'message'), 60, 'the answer')
    shown = driver.find_element(By.TAG_NAME, 'body').text
    for text in ('<script>window.owned = 1; alert(1)</script>', '<img src=x onerror="window.owned = 2">',
                 '"><svg onload="window.owned = 3">', '</pre></script></style><h1 id=owned>',
                 '/(<script>window.owned = 6</script>|<img src=x onerror=owned.7>.*)', 'window.owned = 9'):
        assert text in shown, text
    assert driver.execute_script('return window.owned === undefined && document.title === "Python bridge"')
    assert driver.find_elements(By.CSS_SELECTOR, 'img, h1#owned, #exceptions script, #routes script') == []
    with pytest.raises(NoAlertPresentException):
        driver.switch_to.alert.accept()
    assert [each for each in console(driver) if '/python-bridge/reload' not in each] == []


def test_the_policy_stops_what_would_get_in(orthanc, driver):
    server = orthanc(script=SCRIPT)
    open_page(driver, server)
    driver.execute_script('''
        const script = document.createElement('script');
        script.textContent = 'window.owned = 1';
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<b onclick="window.owned = 2" id="trap">x</b>');
        document.getElementById('trap').click();''')
    assert driver.execute_script('return window.owned') is None
    assert len([each for each in console(driver) if 'Content Security Policy' in each]) >= 2


def test_the_button_loads_the_script_again(orthanc, driver):
    server = orthanc(script=SCRIPT)
    open_page(driver, server)
    write(server, SCRIPT.replace('hello', 'hello again'))
    driver.find_element(By.ID, 'reload').click()
    wait_until(lambda: text_of(driver, 'message').startswith('Generation 2 serves'), 60, 'the reload')
    wait_until(lambda: number(driver, 'generation') == '2', 30, 'the number')
    assert server.get('/hello again').text == 'hello again'
    assert 'generation 2' in text_of(driver, 'generations') and 'asked for, by REST' in text_of(driver, 'generations')
    write(server, 'def f(:\n')
    driver.find_element(By.ID, 'reload').click()
    wait_until(lambda: 'SyntaxError' in text_of(driver, 'message'), 60, 'the failure')
    wait_until(lambda: 'The last reload has failed' in text_of(driver, 'problems'), 30, 'the problem')
    assert 'could not be loaded' in text_of(driver, 'generations')


def test_the_page_says_who_refuses_and_with_which_status(orthanc, driver):
    server = orthanc(script=SCRIPT + FILTER)
    open_page(driver, server)

    def message_after_a_click():
        driver.find_element(By.ID, 'reload').click()
        wait_until(lambda: text_of(driver, 'message') not in ('', 'The script is being loaded ...'), 60, 'the answer')
        return text_of(driver, 'message')

    assert server.get('/forbid/reload').status_code == 200
    assert message_after_a_click() == 'Orthanc refuses (HTTP status 403)'      # without a body
    assert server.get('/forbid/status').status_code == 200
    wait_until(lambda: text_of(driver, 'freshness').startswith('Orthanc refuses (HTTP status 403), this is as of '),
               30, 'the page to say it')
    driver.execute_script('''
        const real = window.fetch;
        window.fetch = (url, options) => real(url.replace('/python-bridge/', '/not-here/'), options);''')
    assert message_after_a_click() == 'Orthanc refuses (HTTP status 404): Unknown resource'     # in Orthanc's JSON


def test_the_page_says_when_orthanc_does_not_answer(orthanc, driver):
    server = orthanc(script=SCRIPT)
    open_page(driver, server)
    assert re.match('as of ', text_of(driver, 'freshness'))
    assert server.stop() == 0
    wait_until(lambda: 'Orthanc does not answer' in text_of(driver, 'freshness'), 30, 'the page to notice')
    assert number(driver, 'hosts serve') == '1'     # what was known stays


def test_the_page_is_linked_from_orthanc_explorer(orthanc, driver):
    server = orthanc(script=SCRIPT)
    assert server.get('/plugins/python').json()['RootUri']
    driver.get(server.url('/app/explorer.html#plugins'))
    link = wait_until(lambda: [each for each in driver.find_elements(By.CSS_SELECTOR, '#plugins li a')
                               if 'python' in each.text], 30, 'the list of plugins')[0]
    before = driver.window_handles
    link.click()                                # which opens a window
    (opened,) = wait_until(lambda: set(driver.window_handles) - set(before), 30, 'the window')
    driver.switch_to.window(opened)
    try:
        wait_until(lambda: driver.current_url == server.url('/python-bridge/'), 30, 'the page')
        wait_until(lambda: refreshes(driver) >= 1, 30, 'the status')
        driver.find_element(By.ID, 'explorer').click()
        wait_until(lambda: driver.current_url.startswith(server.url('/app/explorer.html')), 30, 'Orthanc Explorer')
    finally:
        driver.close()
        driver.switch_to.window(before[0])


def test_a_script_may_have_a_page_of_its_own_linked(orthanc):
    server = orthanc(script=SCRIPT + "orthanc.SetRootUri('/mine/index.html')\n")
    assert server.get('/plugins/python').json()['RootUri'].endswith('mine/index.html')


def test_the_page_below_another_path(orthanc, driver):
    server = orthanc(script=SCRIPT, python={'AdminPath': '/tools/python'})
    open_page(driver, server, '/tools/python/')
    assert number(driver, 'hosts serve') == '1'
    assert driver.find_element(By.ID, 'explorer').get_attribute('href') == server.url('/app/explorer.html')
    assert driver.find_element(By.ID, 'stacks').get_attribute('href') == server.url('/tools/python/stacks?format=text')


def test_the_picture_in_the_documentation_is_small(orthanc, driver):
    """And made anew, if asked for: a server that has seen something."""
    target = os.environ.get('OPB_TEST_SCREENSHOT')
    if target:
        server = orthanc(script=SCRIPT, python={'Workers': 2, 'NodeName': 'main'})
        stop = threading.Event()

        def load():
            for number_ in range(10 ** 6):
                if stop.is_set():
                    return
                server.get('/slow/%g' % (0.001 * (number_ % 40)))

        loader = threading.Thread(target=load)
        loader.start()
        server.get('/broken')
        server.get('/die')
        open_page(driver, server)
        wait_until(lambda: refreshes(driver) >= 25, 120, 'some time to pass')
        server.get('/broken')
        await_refresh(driver)
        await_refresh(driver)
        driver.find_element(By.CSS_SELECTOR, '#exceptions summary').click()
        assert driver.save_screenshot(target)
        stop.set()
        loader.join()
    assert os.path.getsize(os.path.join(REPOSITORY, 'docs', 'status-page.png')) < 200000
