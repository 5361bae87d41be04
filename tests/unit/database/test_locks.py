"""Readers share, a writer is alone and is not starved."""

from threading import Barrier, Event, Thread

from balsadb.database.locks import SharedLock


def test_readers_share_the_lock() -> None:
    lock, together = SharedLock(), Barrier(3, timeout=10)

    def read() -> None:
        with lock.shared():
            together.wait()

    threads = [Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    together.wait()
    for thread in threads:
        thread.join()


def test_a_writer_waits_for_readers_and_holds_back_new_ones() -> None:
    lock = SharedLock()
    order: list[str] = []
    lock.acquire_shared()

    def write() -> None:
        with lock.exclusive():
            order.append("write")

    def read() -> None:
        with lock.shared():
            order.append("read")

    writer = Thread(target=write)
    writer.start()
    while not lock._writers_waiting:
        pass
    reader = Thread(target=read)
    reader.start()
    reader.join(0.05)
    assert order == []
    lock.release_shared()
    writer.join(10)
    reader.join(10)
    assert order == ["write", "read"]


def test_a_leaving_writer_lets_in_the_readers_that_wait() -> None:
    """Before the next writer, even if that is there first."""
    lock = SharedLock()
    order: list[str] = []

    def write() -> None:
        with lock.exclusive():
            order.append("write")

    def read() -> None:
        with lock.shared():
            order.append("read")

    lock.acquire_exclusive()
    threads = [Thread(target=write), Thread(target=read), Thread(target=read)]
    for thread in threads:
        thread.start()
    while not (lock._writers_waiting == 1 and lock._readers_waiting == 2):
        pass
    lock.release_exclusive()
    for thread in threads:
        thread.join(10)
    assert order == ["read", "read", "write"]


def test_no_reader_ever_sees_half_a_write() -> None:
    lock, stop = SharedLock(), Event()
    pair = [0, 0]
    torn: list[tuple[int, int]] = []

    def read() -> None:
        while not stop.is_set():
            with lock.shared():
                left, right = pair
            if left != right:
                torn.append((left, right))

    def write() -> None:
        for _ in range(2000):
            with lock.exclusive():
                pair[0] += 1
                pair[1] += 1

    readers = [Thread(target=read) for _ in range(2)]
    writers = [Thread(target=write) for _ in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in readers:
        thread.join(60)
    assert torn == []
    assert pair == [4000, 4000]
