#!/usr/bin/env bash
# Installs the servers that no Python environment brings: by apt-get where root may, and Azurite by
# npm into the environment that is named. What can't be had is said, and its tests are left out.
set -uo pipefail
environment=$1

packages=(nginx-light haproxy ceph-mon ceph-osd radosgw ceph-common openssh-server
          munge slurmctld slurmd slurm-client cron)
programs=(nginx haproxy ceph-mon ceph-osd radosgw ceph sshd
          munged slurmctld slurmd sbatch cron)
missing=()
for i in "${!programs[@]}"; do
  PATH="$PATH:/usr/sbin" command -v "${programs[$i]}" >/dev/null || missing+=("${packages[$i]}")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # No package starts a server of its own: the tests do, on 127.0.0.1.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null ||
      echo "${missing[*]}: could not be installed; the tests that need them are left out" >&2
  else
    echo "${missing[*]}: not installed; the tests that need them are left out" >&2
  fi
fi

if [ ! -x "$environment/node_modules/.bin/azurite-blob" ]; then
  # Later ones want a Node of this year.
  command -v npm >/dev/null &&
    npm install --silent --no-fund --no-audit --prefix "$environment" azurite@3.35.0 ||
    echo "azurite: could not be installed by npm; the tests that need it are left out" >&2
fi

# The dask operator's schemas come with its Python package, whose many dependencies nobody needs.
operator=$environment/dask-kubernetes
if [ ! -d "$operator/dask_kubernetes" ]; then
  "$environment/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-deps \
    --target "$operator" 'dask-kubernetes>=2026.3' ||
    echo "dask-kubernetes: could not be fetched; the tests of the operator's files will fail" >&2
fi
