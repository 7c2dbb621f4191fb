"""A kernel starts although others start beside it."""

import socket

import pytest
from nbclient import NotebookClient
from stub_pages import write_page

from press import kernels


@pytest.fixture
def unlucky(monkeypatch):
    """As if another kernel had been faster: the first kernels that are started find a port of theirs taken. Call it with how many."""
    create, left = NotebookClient.create_kernel_manager, []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def with_its_port_taken(client):
            manager = create(client)
            if left:
                manager.cache_ports, manager.stdin_port = False, left.pop()
            return manager

        monkeypatch.setattr(NotebookClient, "create_kernel_manager", with_its_port_taken)
        yield lambda times: left.extend([listener.getsockname()[1]] * times)


def test_a_kernel_whose_port_was_taken_is_started_again(unlucky, tmp_path):
    page = write_page(tmp_path, "print(40 + 2)")
    unlucky(1)
    notebook, _, error = kernels.execute(page)
    assert error is None and notebook.cells[-1].outputs[0].text == "42\n"
    unlucky(1)
    with kernels.Kernel(page, MLSD_SEED="5") as kernel:
        kernel.run("import os; assert os.environ['MLSD_SEED'] == '5'")


def test_one_that_never_starts_fails_its_page(unlucky, tmp_path):
    page = write_page(tmp_path, "print(1)")
    unlucky(kernels.STARTS)
    assert "died" in kernels.execute(page)[2]
