"""Clusters that are refused before a server runs on them."""

import os
from pathlib import Path

import pytest

from bwenge.kit.embedded_postgres import EmbeddedPostgres, PostgresFailedToStart
from bwenge.kit.embedded_postgres.account import Account
from bwenge.kit.embedded_postgres.cluster import Cluster

PASSWORD = "unused"


@pytest.mark.parametrize("password", ["", "two\nlines"])
def test_a_password_that_initdb_would_cut_is_refused(password: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="password"):
        EmbeddedPostgres(tmp_path, password=password)


def test_a_failed_initdb_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def options(directory: Path, _: Path) -> list[str]:
        return [f"--pgdata={directory}", "--encoding=klingon"]

    monkeypatch.setattr("bwenge.kit.embedded_postgres.cluster._initdb_options", options)
    with pytest.raises(PostgresFailedToStart, match="klingon"):
        EmbeddedPostgres(tmp_path, password=PASSWORD).start()


def test_a_cluster_of_another_major_version_is_left_alone(tmp_path: Path) -> None:
    cluster = tmp_path / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(PostgresFailedToStart, match="made by PostgreSQL 16, and this is 18"):
        EmbeddedPostgres(tmp_path, password=PASSWORD).start()
    assert [path.name for path in cluster.iterdir()] == ["PG_VERSION"]


def test_a_lock_file_that_is_not_written_yet_names_nobody(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, Account(os.geteuid(), os.getegid()))
    cluster.directory.mkdir()
    cluster.postmaster_file.write_text("")
    assert cluster.postmaster_pid() is None
    assert not cluster.is_ready(1)
