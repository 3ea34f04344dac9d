"""One asyncio loop in a thread of its own, for clients and proxies: a test is
plain code that starts things there and asks for their results."""

import asyncio
import threading

_loop = asyncio.new_event_loop()


def _main():
    asyncio.set_event_loop(_loop)
    _loop.run_forever()


threading.Thread(target=_main, name='loop', daemon=True).start()


def spawn(coroutine):
    """Runs it in the background; a concurrent.futures.Future."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop)


def run(coroutine, timeout=120):
    """Runs it to its end; its result."""
    return spawn(coroutine).result(timeout)


def call(function, *arguments):
    """A plain function, called where the loop's objects live."""

    async def wrapper():
        return function(*arguments)

    return run(wrapper(), 10)
