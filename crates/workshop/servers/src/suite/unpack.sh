# sh unpack.sh DIRECTORY SUITE PACKAGE...
# Unpacks packages of another release of Debian into DIRECTORY, with all that they need, down to the C library. Nothing is
# installed: apt is told of a machine that has nothing, and only fetches.
set -eu
directory=$1 suite=$2
shift 2
apt=$directory.apt
rm -rf "$directory" "$apt"
mkdir -p "$directory" "$apt/lists/partial" "$apt/archives/partial"

# From where the machine's own packages come.
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Release: $VERSION_CODENAME" "Component: main" "Identifier: Packages" | head -n 1)
[ -n "$mirror" ] || { echo "apt's sources name no mirror of Debian's $VERSION_CODENAME"; exit 1; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
: >"$apt/status"

apt() {
    apt-get -q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" "$@"
}
apt update
# The essential ones are needed by all, so nobody names them.
apt install --yes --download-only --no-install-recommends '?essential' "$@"
for package in "$apt"/archives/*.deb; do
    dpkg -x "$package" "$directory"
done
rm -rf "$apt"
