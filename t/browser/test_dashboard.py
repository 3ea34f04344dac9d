"""payment_dashboard in Chromium: what it shows is so, its buttons work, and
everybody can read it.

Real payments, a real database and a real Kafka. Each page must be without an
error in the browser's console (which has what the Content-Security-Policy
refused, too), and without a finding of axe-core. With PAYMENT_TEST_PICTURES=1
the pictures of the docs are made anew: docs/dashboard-light.png, -dark.png and
-phone.png; that takes four minutes.
"""

import json
import os
import pathlib
import re
import shutil
import threading

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from api.service import Database, Nginx, await_that, environment

PICTURES = bool(os.environ.get('PAYMENT_TEST_PICTURES'))
DOCS = pathlib.Path(__file__).resolve().parents[2] / 'docs'

CONFIG = """
    payment_kafka_brokers 127.0.0.1:{kafka};
    payment_kafka_topic payments-browser-{pid};

    server {{
        listen 127.0.0.1:$PORT;
        location /api/payments {{ payment_api; }}
        location = /status {{ payment_status; }}
        location = /outbox {{ payment_outbox_admin; }}
        location = /dashboard {{ payment_dashboard admin=/outbox; }}
        location = /looking {{ payment_dashboard; }}
        location = /lost {{ payment_dashboard status=/nowhere; }}
    }}
"""

DEAD = """
INSERT INTO outbox_dead (id, aggregatetype, aggregateid, type, merchant_id,
    version, created_at, traceparent, payload, reason, attempts, dead_at)
SELECT 1000000001, 'payment', UUID(), 'authorized', merchant_id, 1,
       '2026-01-02 03:04:05.678901', NULL, '{}',
       '<img src=x onerror="document.title=1">', 5, '2026-01-02 03:04:06.789'
FROM payment LIMIT 1
"""


@pytest.fixture(scope='module')
def database():
    made = Database('browser')
    yield made
    made.drop()


@pytest.fixture(scope='module')
def nginx(database):
    env = environment()
    made = Nginx('browser', database.shard().replace(
        f"unix:{env['PAYMENT_TEST_DB_SOCKET']}",
        f"127.0.0.1:{env['PAYMENT_TEST_DB_PORT']}") + CONFIG.format(
            kafka=env['PAYMENT_TEST_KAFKA_PORT'], pid=os.getpid()))
    yield made
    made.close()


@pytest.fixture(scope='module')
def payments(nginx):
    """Some hundred a second, for as long as the tests run."""

    over = threading.Event()
    made = [0]

    def pay():
        while not over.is_set():
            pay_on_one_connection()

    def pay_on_one_connection():
        with nginx.connection() as c:
            for _ in range(500):
                if over.wait(0.005):
                    break

                body = {'merchantId': f'MERCHANT-{made[0] % 50}',
                        'amount': 1000, 'currency': 'KRW',
                        'idempotencyKey': f'browser-{made[0]}'}

                if made[0] % 40 == 0:
                    body['amount'] = -1

                c.request('POST', '/api/payments/authorize',
                          json.dumps(body).encode(),
                          [('Content-Type', 'application/json')])
                made[0] += 1

    thread = threading.Thread(target=pay)
    thread.start()
    await_that(lambda: made[0] > 100, 'there are no payments')
    yield made
    over.set()
    thread.join()


@pytest.fixture(scope='module')
def chromium():
    program = shutil.which('chromium')
    assert program, "there is no chromium: tools/install-deps.sh browser"

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=['--no-sandbox'] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, nginx, payments):
    """Opens a path; at the end no page may have had an error."""

    contexts, errors = [], []

    def open_path(path, **options):
        context = chromium.new_context(
            **{'viewport': {'width': 1280, 'height': 1000}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20000)
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('console', lambda line: errors.append(line.text)
                if line.type == 'error' else None)
        page.on('request', lambda request: errors.append(request.url)
                if f'127.0.0.1:{nginx.port}/' not in request.url else None)
        page.goto(f'http://127.0.0.1:{nginx.port}{path}')
        return page

    open_path.expected = []         # pieces of errors that are to be there
    yield open_path

    for context in contexts:
        context.close()

    assert [error for error in errors if not any(
        piece in error for piece in open_path.expected)] == []


def tile(page, name):
    """The value under a name; None while it is not there."""

    found = page.locator('.tile', has=page.get_by_text(name, exact=True))
    return found.locator('dd').first.inner_text() if found.count() else None


def number(text):
    return float(re.sub(r'[^\d.]', '', text or '') or 'nan')


def points(page):
    lines = page.locator('polyline')
    return lines.count() and len(
        lines.first.get_attribute('points').split())


def findings(page):
    return [f"{v['id']}: {v['nodes'][0]['html']}"
            for v in Axe().run(page).response['violations']]


def test_what_it_shows_is_so(open_page, nginx):
    page = open_page('/looking')
    await_that(lambda: number(tile(page, 'Time to the answer')) > 0,
               'there is no second look')

    with nginx.connection() as c:
        status = json.loads(c.request('GET', '/status').body)

    assert status['version'] in page.locator('#node').inner_text()
    assert tile(page, 'Payments') == 'taken'
    assert 5 < number(tile(page, 'Payments per second')) < 500
    assert number(tile(page, 'Other answers per second')) > 0
    assert tile(page, 'Kafka') == 'reached'
    await_that(lambda: tile(page, 'Breaker') == 'CLOSED',
               'the breaker is not closed', 60)
    assert tile(page, 'Dead letters') == '0'

    row = page.locator('#shards tr').first.inner_text()
    assert row.startswith('main') and status['shards'][0]['server'] in row
    assert 'held' in page.locator('#outbox').inner_text()

    answers = page.locator('#requests').inner_text()
    assert re.search(r'authorize\s+OK', answers)
    assert re.search(r'authorize\s+VALIDATION_FAILED|authorize\s+INVALID',
                     answers)

    # no admin location: nothing to change
    assert page.locator('button').count() == 0
    await_that(lambda: points(page) >= 2, 'the chart does not grow')


def test_buttons(open_page, nginx):
    page = open_page('/dashboard')
    asked = []
    page.on('dialog', lambda d: (asked.append(d.message), d.accept()))

    # with the keyboard alone
    button = page.get_by_role('button', name='Pause publishing')
    button.focus()
    page.keyboard.press('Enter')
    page.get_by_text('Pause publishing: done.').wait_for()
    await_that(lambda: tile(page, 'Helper') == 'paused', 'it is not paused')
    assert asked == ['Pause publishing?']

    page.get_by_role('button', name='Resume publishing').click()
    page.get_by_text('Resume publishing: done.').wait_for()

    page.get_by_role('button', name='Force the breaker open').click()
    await_that(lambda: tile(page, 'Breaker') == 'FORCED_OPEN',
               'the breaker is not open')
    page.get_by_role('button', name='Reset the breaker').click()
    await_that(lambda: tile(page, 'Breaker') == 'CLOSED',
               'the breaker is not closed')


def test_a_drained_node(open_page, nginx):
    page = open_page('/dashboard')
    page.on('dialog', lambda dialog: dialog.accept())
    page.get_by_role('button', name='Drain this node').click()
    await_that(lambda: tile(page, 'Payments') == 'drained', 'it takes payments')
    page.get_by_role('button', name='End the draining').click()
    await_that(lambda: tile(page, 'Payments') == 'taken', 'it is drained')


def test_a_database_that_is_away(chromium, database):
    """The first thing that one sees is that payments are refused."""

    env = environment()
    config = CONFIG.format(kafka=env['PAYMENT_TEST_KAFKA_PORT'],
                           pid=os.getpid())
    away = Nginx('browser-away', database.shard() + config)
    context = chromium.new_context()

    try:
        away.configure(database.shard().replace(
            f"unix:{env['PAYMENT_TEST_DB_SOCKET']}", '127.0.0.1:1') + config)
        away.signal_reload()
        page = context.new_page()
        page.goto(f'http://127.0.0.1:{away.port}/looking')
        await_that(lambda: tile(page, 'Payments') == 'refused',
                   'it says that it takes payments')
        first = page.locator('.tile').first
        assert first.locator('dt').inner_text() == 'Payments'
        assert 'bad' in first.locator('dd').first.get_attribute('class')
        assert '0 of 1 shards' in first.inner_text()
        assert 'held' not in page.locator('#outbox').inner_text()
        assert findings(page) == []
    finally:
        context.close()
        away.close()


def test_who_says_no_changes_nothing(open_page, nginx):
    page = open_page('/dashboard')
    page.on('dialog', lambda dialog: dialog.dismiss())
    page.get_by_role('button', name='Pause publishing').click()
    page.wait_for_timeout(100)

    with nginx.connection() as c:
        assert not json.loads(c.request('GET', '/status').body)[
            'outbox']['paused']

    assert page.locator('#said').inner_text() == ''


def test_dead_letters(open_page, database):
    database.execute(DEAD)

    page = open_page('/dashboard')
    page.on('dialog', lambda dialog: dialog.accept())
    row = page.locator('#dead tr', has_text='1000000001')
    row.wait_for()

    # what a reason says is text
    assert '<img src=x' in row.inner_text()
    assert page.locator('#dead img').count() == 0
    assert page.title() == 'Payments'
    await_that(lambda: tile(page, 'Dead letters') == '1', 'it is not counted')
    assert findings(page) == []

    row.get_by_role('button', name='Replay').click()
    await_that(lambda: database.value('SELECT COUNT(*) FROM outbox_dead') == 0,
               'it was not replayed')
    row.wait_for(state='detached')


def test_a_replay_by_keyboard(open_page, database):
    """Through the page by Tab, in the order in which it is read; who says no at
    first finds the focus where it was, and so does who waits for longer than
    from one look to the next."""

    database.execute(DEAD)
    asked = []

    page = open_page('/dashboard')
    page.locator('#dead tr', has_text='1000000001').wait_for()
    focused = []

    while 'Replay event' not in (focused or [''])[-1]:
        page.keyboard.press('Tab')
        focused.append(page.evaluate(
            "document.activeElement.ariaLabel"
            " || document.activeElement.textContent.trim()"))
        assert len(focused) < 20, focused

    assert focused[-1] == 'Replay event 1000000001 of shard main'
    assert 'Pause publishing' in focused and 'Drain this node' in focused
    assert page.evaluate("document.activeElement.matches(':focus-visible')")

    def answer(dialog):
        asked.append(dialog.message)
        dialog.accept() if len(asked) > 1 else dialog.dismiss()

    page.on('dialog', answer)
    page.keyboard.press('Space')

    for path in ('outbox', 'status'):       # it has looked, and shown it
        with page.expect_response(f'**/{path}*'):
            pass

    assert database.value('SELECT COUNT(*) FROM outbox_dead') == 1
    assert page.locator('#said').inner_text() == ''

    page.keyboard.press('Enter')
    await_that(lambda: database.value('SELECT COUNT(*) FROM outbox_dead') == 0,
               'it was not replayed')
    assert len(asked) == 2 and asked[0] == asked[1]
    assert re.fullmatch(r'Replay the events of payment [0-9a-f-]{36}\?',
                        asked[0]), asked


def test_a_status_that_is_away(open_page):
    open_page.expected.append('404')        # the browser says so by itself
    page = open_page('/lost')
    page.get_by_text('Not known at').wait_for()
    assert 'status 404' in page.locator('#reach').inner_text()
    assert findings(page) == []


@pytest.mark.parametrize('name, options', [
    ('light', {'color_scheme': 'light'}),
    ('dark', {'color_scheme': 'dark'}),
    ('phone', {'color_scheme': 'light', 'is_mobile': True, 'has_touch': True,
               'viewport': {'width': 390, 'height': 844}}),
])
def test_everybody_can_read_it(open_page, name, options):
    page = open_page('/dashboard', **options)

    # some seconds of the charts
    await_that(lambda: points(page) >= (35 if PICTURES else 4),
               'the chart does not grow', 150)

    assert findings(page) == []

    # nothing is cut off, and nothing moves sideways but the tables
    assert page.evaluate('document.documentElement.scrollWidth'
                         ' <= window.innerWidth')

    if PICTURES:
        page.screenshot(path=DOCS / f'dashboard-{name}.png', full_page=True)
