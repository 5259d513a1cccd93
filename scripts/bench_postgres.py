"""A PostgreSQL server of the bench's own, on loopback, gone with the lab: the system's programs."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench_lab import Lab, Trouble, free_port


class Postgres:
    def __init__(self, lab: Lab):
        self.bin = self.programs()
        # Root cannot run the server, and the server's user cannot look into root's folders.
        self.folder = Path(tempfile.mkdtemp(prefix="pitlane-bench-pg-"))
        self.as_user = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        data, self.port = self.folder / "data", free_port()
        made = subprocess.run([*self.as_user, self.bin / "initdb", "--auth=trust", "--username=postgres", "-D", data],
                              cwd="/", capture_output=True, text=True)
        if made.returncode:
            raise Trouble(f"initdb: {made.stderr[-1000:]}")
        # Durable, as it comes: fsync and synchronous commits are on.
        self.process = lab.start("postgres", *(self.as_user or ["env"]), self.bin / "postgres", "-D", data, "-p", self.port,
                                 "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        for _ in range(200):
            if self.process.poll() is not None:
                raise Trouble("postgres ended:\n" + (lab.work / "postgres.log").read_text()[-2000:])
            ready = [self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready).returncode == 0:
                return
            time.sleep(0.1)
        raise Trouble("postgres did not start in 20 s")

    @staticmethod
    def programs() -> Path:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
        if not found:
            raise Trouble("PostgreSQL is missing; run scripts/setup.sh tests")
        return found[-1].parent

    def ask(self, sql: str) -> str:
        done = subprocess.run([self.bin / "psql", "-qXtA", "-c", sql, self.url], capture_output=True, text=True)
        if done.returncode:
            raise Trouble(f"{sql}: {done.stderr}")
        return done.stdout.strip()

    def close(self, lab: Lab) -> None:
        lab.end(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)
