"""Gets the peers into target/compare, each version written down here. Nothing is installed on the machine, nothing starts."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DEBIAN = {
    "postfix": "3.7.11-0+deb12u1",
    "exim4-daemon-light": "4.96-15+deb12u10",
    "libsasl2-modules": "2.1.28+dfsg-10+deb12u1",
    "libphp-phpmailer": "6.6.3-1",
}
HARAKA = "3.3.4"
# What the registry had when that version was new: later versions of its dependencies are not always complete there.
HARAKA_BEFORE = "2026-09-10"
EMAILPROXY = "2026.7.3"


def install(wanted, root):
    """Unpacks what `wanted` needs below `root`; returns the versions by name."""
    versions = {}
    for package in packages_for(wanted):
        versions[package] = debian(package, root / package)
    if "haraka" in wanted:
        versions["haraka"] = haraka(root / "haraka")
    if "emailproxy" in wanted:
        versions["emailproxy"] = emailproxy(root / "emailproxy")
    return versions


def packages_for(wanted):
    packages = ["libphp-phpmailer"]
    # Postfix's package also has smtp-source, the second load client.
    packages += ["postfix", "libsasl2-modules"]
    if "exim" in wanted:
        packages.append("exim4-daemon-light")
    return packages


def debian(package, folder):
    mark = folder / ".version"
    if mark.exists():
        return mark.read_text()
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as download:
        os.chmod(download, 0o755)
        version = apt_download(package, download)
        (archive,) = Path(download).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    mark.write_text(version)
    return version


def apt_download(package, folder):
    """The version written down, or what the archive has in its place: Debian keeps only the newest one."""
    pinned = f"{package}={DEBIAN[package]}"
    fetch = lambda name: subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, text=True)
    if fetch(pinned).returncode == 0:
        return DEBIAN[package]
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    if fetch(pinned).returncode == 0:
        return DEBIAN[package]
    got = fetch(package)
    if got.returncode != 0:
        sys.exit(f"compare: apt-get download {package} failed:\n{got.stderr}")
    (archive,) = Path(folder).glob("*.deb")
    version = subprocess.run(["dpkg-deb", "-f", archive, "Version"], check=True, capture_output=True, text=True)
    print(f"{pinned} is no longer in the archive, which has {version.stdout.strip()}", file=sys.stderr)
    return version.stdout.strip()


def haraka(folder):
    mark = folder / ".version"
    if mark.exists():
        return mark.read_text()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true}\n')
    npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--omit=optional", f"--before={HARAKA_BEFORE}"]
    subprocess.run([*npm, f"Haraka@{HARAKA}"], cwd=folder, check=True)
    mark.write_text(HARAKA)
    return HARAKA


def emailproxy(folder):
    mark = folder / ".version"
    if mark.exists():
        return mark.read_text()
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--target", folder]
    subprocess.run([*pip, f"emailproxy=={EMAILPROXY}"], check=True)
    mark.write_text(EMAILPROXY)
    return EMAILPROXY
