"""Plays through nginx, which is reloaded while bots play.

The server runs outside the dev profile, behind nginx as its trusted relay, and below a path. All players have one
address, as in a school. Each has to keep its session over the reload.

The script prints how long players took to join and to resume. It fails for these times only with --within, because
the machine may be busy.
"""

import argparse
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
# A process of bots starts 100 players a second.
PLAYERS_PER_PROCESS = 100
# The longest start of the server, in seconds, on a busy machine.
START_MAX = 30
# The longest end of bots, in seconds. They wait for answers for up to 15 s, and leave within 6 s.
BOTS_END_MAX = 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/debug/waystation", help="the built binary")
    parser.add_argument("--nginx", default=shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx")
    parser.add_argument("--players", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=16, help="how long players play, in seconds")
    parser.add_argument("--reload-after", type=float, default=8, help="when nginx is reloaded, in seconds after the start of players")
    parser.add_argument("--within", type=float, help="fail if a player takes longer to join or to resume, in seconds")
    return parser.parse_args()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(url, process):
    """Waits until the URL answers with 200."""
    deadline = time.monotonic() + START_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    sys.exit(f"{url} has not answered with 200 within {START_MAX} s")


def start_server(options, folder, port, public_url):
    key, bearer = folder / "key", folder / "bearer"
    key.write_text(secrets.token_hex(32) + "\n")
    bearer.write_text(secrets.token_hex(16) + "\n")
    for secret in (key, bearer):
        secret.chmod(0o600)
    command = [
        options.binary, "serve", "--key-file", key, "--bearer-file", bearer,
        "--http-listen", f"127.0.0.1:{port}", "--http-plain", "--without", "udp", "--without", "quic",
        "--trusted-relay", "127.0.0.1", "--public-url", public_url,
    ]
    log = open(folder / "serve.log", "w")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT), bearer


def start_nginx(options, folder, nginx_port, server_port):
    text = (HERE / "nginx.conf").read_text()
    values = {"folder": folder, "nginx_port": nginx_port, "server_port": server_port}
    for name, value in values.items():
        text = text.replace(f"@{name}", str(value))
    config = folder / "nginx.conf"
    config.write_text(text)
    command = [options.nginx, "-e", folder / "error.log", "-p", folder, "-c", config]
    return subprocess.Popen(command)


def start_bots(options, public_url, bearer):
    processes, left = [], options.players
    while left:
        players = min(left, PLAYERS_PER_PROCESS)
        left -= players
        command = [
            options.binary, "bot", "--server", public_url, "--bearer-file", bearer, "--transport", "ws",
            "--clients", str(players), "--seconds", str(options.seconds), "--seed", str(len(processes) + 1),
        ]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    return processes


def figure(pattern, text):
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def verdict(options, reports, codes, summary):
    """Returns what has failed, in words."""
    joined = max(figure(r"the last after ([\d.]+) s", report) for report in reports)
    absence = max(figure(r"longest absence ([\d.]+) s", report) for report in reports)
    lost_links = sum(figure(r"unplanned +(\d+)", report) for report in reports)
    lost_sessions = sum(figure(r"sessions lost (\d+)", report) for report in reports)
    print(f"{options.players} players of one address, all in after {joined:.1f} s")
    print(f"the reload cut {lost_links:.0f} links, the longest absence was {absence:.1f} s, "
          f"{lost_sessions:.0f} sessions were lost")
    wrong = [f"bots exited with {code}:\n{report}" for code, report in zip(codes, reports) if code]
    if lost_links < options.players:
        wrong.append("the reload has not cut every link, so the run proves nothing")
    if options.within and max(joined, absence) > options.within:
        wrong.append(f"a player took longer than {options.within} s to join or to resume")
    if f"resumed={lost_links:.0f} " not in summary:
        wrong.append(f"the server's summary does not count {lost_links:.0f} resumed sessions: {summary}")
    return wrong


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(START_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="waystation-nginx-") as name:
        folder = pathlib.Path(name)
        # nginx drops its rights as root, and still has to read this folder.
        folder.chmod(0o755)
        server_port, nginx_port = free_port(), free_port()
        public_url = f"http://127.0.0.1:{nginx_port}/eu"
        started = []
        try:
            server, bearer = start_server(options, folder, server_port, public_url)
            started.append(server)
            wait_for(f"http://127.0.0.1:{server_port}/healthz", server)
            nginx = start_nginx(options, folder, nginx_port, server_port)
            started.append(nginx)
            wait_for(f"{public_url}/healthz", nginx)
            bots = start_bots(options, public_url, bearer)
            started.extend(bots)
            time.sleep(options.reload_after)
            nginx.send_signal(signal.SIGHUP)
            reports = [process.communicate(timeout=options.seconds + BOTS_END_MAX)[0] for process in bots]
        finally:
            for process in reversed(started):
                stop(process)
        lines = (folder / "serve.log").read_text().splitlines()
        wrong = verdict(options, reports, [process.returncode for process in bots], lines[-1])
        print((folder / "error.log").read_text(), end="", file=sys.stderr)
        if wrong:
            print("FAILED\n- " + "\n- ".join(wrong))
            sys.exit(1)
        print("passed")


main()
