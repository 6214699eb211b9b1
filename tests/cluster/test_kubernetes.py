"""What Kubernetes is given: known to it field by field, and safe where nobody looks."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.cluster.reading import (
    FOLDER,
    KUBERNETES,
    Document,
    broken,
    containers,
    documents,
    found,
    named,
    pods,
    resources,
)

VERSION = "1.33"
"""Of Kubernetes; all that is used has been there for a year then."""
OPERATOR = "kubernetes.dask.org/v1"
BUILT_IN = [one for one in resources() if one["apiVersion"] != OPERATOR]
OPERATED = [one for one in resources() if one["apiVersion"] == OPERATOR]
SECRET = re.compile("key|secret|token|password", re.IGNORECASE)


def check(resource: Document) -> None:
    """Judge a resource of Kubernetes' own; a field that it doesn't know is an error."""
    kubernetes_validate.validate(resource, VERSION, strict=True)


def as_pod(spec: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


def as_service(spec: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": spec}


def document(name: str) -> Document:
    return documents(FOLDER / "kubernetes" / name)[0]


def test_every_kind_is_there() -> None:
    kinds = [one["kind"] for one in resources()]
    assert sorted(kinds) == [
        "CronJob", "DaskCluster", "DaskJob", "NetworkPolicy", "PersistentVolumeClaim"
    ]  # fmt: skip


@pytest.mark.parametrize("resource", BUILT_IN, ids=named)
def test_built_in_kinds(resource: Document) -> None:
    check(resource)


@pytest.mark.parametrize(
    ("file", "field", "value", "told"),
    [
        ("cronjob.yaml", "spec.schedul", "@hourly", "schedul"),
        ("cronjob.yaml", "spec.timeZone", 1, "1 is not of type"),
        ("cronjob.yaml", "spec.jobTemplate.spec.backoffLimit", "twice", "twice"),
        ("networkpolicy.yaml", "spec.policyTypes", "Ingress", "Ingress"),
        ("networkpolicy.yaml", "spec.ingress.0.port", 8786, "port"),
    ],
)
def test_built_in_kinds_broken(file: str, field: str, value: Any, told: str) -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match=told):
        check(broken(document(file), field, value))


def test_pods_and_services_of_the_operator_s_kinds() -> None:
    made = [as_pod(spec) for spec in pods()]
    made += [as_service(spec) for one in OPERATED for spec in found(one, "service")]
    assert [one["kind"] for one in made] == ["Pod"] * 6 + ["Service"] * 2
    for one in made:
        check(one)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("containers.0.readOnlyRootFilesystem", True, "readOnlyRootFilesystem"),
        ("containers.0.image", 8, "8 is not of type"),
        ("securityContext.runAsNonRoot", "yes", "yes"),
        ("containers.0.resources.limit", {"cpu": "4"}, "limit"),
        ("volumes.0.emptyDir", {"size": "1Gi"}, "size"),
    ],
)
def test_pods_broken(field: str, value: Any, told: str) -> None:
    for spec in pods():
        with pytest.raises(kubernetes_validate.ValidationError, match=told):
            check(as_pod(broken(spec, field, value)))


@pytest.mark.parametrize("spec", pods(), ids=lambda spec: spec["containers"][0]["name"])
def test_pods_have_no_more_rights_than_they_need(spec: Document) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] >= 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for one in spec["containers"]:
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = [to["mountPath"] for to in one["volumeMounts"] if not to.get("readOnly")]
        assert all(path.startswith("/scratch") for path in writable)


@pytest.mark.parametrize("one", containers(), ids=lambda one: one["name"])
def test_every_container_has_limits(one: Document) -> None:
    limits, requests = one["resources"]["limits"], one["resources"]["requests"]
    assert {"cpu", "memory"} <= set(limits)
    assert limits["memory"] == requests["memory"]  # more than that may be taken away
    told = [arg for arg in one["args"] if arg.startswith("--memory-limit=")]
    for arg in told:
        assert float(arg.partition("=")[2].removesuffix("GiB")) < float(limits["memory"][:-2])


def test_who_serves_is_probed() -> None:
    serving = [one for one in containers() if "ports" in one]
    assert [one["name"] for one in serving] == ["worker", "scheduler"] * 2
    for one in serving:
        ports = {port["name"] for port in one["ports"]}
        for probe in (one["readinessProbe"], one["livenessProbe"]):
            assert probe["httpGet"]["path"] == "/health"
            assert probe["httpGet"]["port"] in ports


def test_no_secret_stands_in_a_file() -> None:
    told = [entry for one in containers() for entry in one.get("env", [])]
    secret = [entry for entry in told if SECRET.search(entry["name"])]
    assert len(secret) == 8
    assert all(set(entry) == {"name", "valueFrom"} for entry in secret)
    assert all(set(entry["valueFrom"]) == {"secretKeyRef"} for entry in secret)
    assert "Secret" not in [one["kind"] for one in resources()]


def test_the_same_image_everywhere_and_none_that_changes() -> None:
    (image,) = {one["image"] for one in containers()}
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", image)


def test_a_service_finds_its_scheduler() -> None:
    for one in OPERATED:
        (service,) = found(one, "service")
        assert service["selector"] == {
            "dask.org/cluster-name": one["metadata"]["name"],
            "dask.org/component": "scheduler",
        }
        assert {port["name"] for port in service["ports"]} == {"tcp-comm", "http-dashboard"}


def test_the_readme_makes_what_the_files_refer_to() -> None:
    told = (FOLDER / "README.md").read_text("utf-8")
    wanted = {one["name"] for one in found(resources(), "configMap")}
    wanted |= {one["name"] for one in found(resources(), "configMapRef")}
    assert set(re.findall(r"create configmap (\S+)", told)) == wanted
    secrets = {one["name"] for one in found(resources(), "secretKeyRef")}
    assert set(re.findall(r"create secret generic (\S+)", told)) == secrets
    applied = set(re.findall(r"kubectl apply -f cluster/kubernetes/(\S+)", told))
    assert applied == {path.name for path in KUBERNETES}


def strictly(schema: Any) -> Any:
    """Return a schema that refuses unknown fields, as a server does that is asked to."""
    if isinstance(schema, list):
        return [strictly(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strictly(value) for name, value in schema.items()}
    known = schema.get("properties")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and isinstance(known, dict) and not is_open:
        made.setdefault("additionalProperties", False)
    return made


@cache
def operator_s_schemas() -> dict[str, Any]:
    """Return the schema of each kind, as the operator's own package brings it."""
    package = Path(sys.prefix) / "dask-kubernetes" / "dask_kubernetes"
    assert package.is_dir(), f"{package}: isn't there; `make test-servers` fetches it"
    schemas = {}
    for path in package.glob("operator/deployment/helm/*/crds/*.yaml"):
        told = yaml.safe_load(path.read_text("utf-8"))["spec"]
        (version,) = (one for one in told["versions"] if one["name"] == "v1")
        schema = strictly(version["schema"]["openAPIV3Schema"])
        for name in ("apiVersion", "kind", "metadata"):  # the server's own, of every kind
            schema["properties"].setdefault(name, {})
        schemas[told["names"]["kind"]] = schema
    return schemas


def check_operated(resource: Document) -> None:
    jsonschema.Draft202012Validator(operator_s_schemas()[resource["kind"]]).validate(resource)


@pytest.mark.servers
@pytest.mark.parametrize("resource", OPERATED, ids=named)
def test_operator_s_kinds(resource: Document) -> None:
    check_operated(resource)


@pytest.mark.servers
@pytest.mark.parametrize(
    ("file", "field", "value", "told"),
    [
        ("daskcluster.yaml", "spec.idleTimeout", "1h", "1h"),
        ("daskcluster.yaml", "spec.worker.replica", 4, "replica"),
        ("daskcluster.yaml", "spec.worker.spec.containers.0.ports.0.containerPort", "x", "x"),
        ("daskcluster.yaml", "spec.scheduler.service", None, "None"),
        ("daskjob.yaml", "spec.job.spec.containers.0.arg", [], "arg"),
        ("daskjob.yaml", "spec.cluster.spec.workers", {}, "workers"),
    ],
)
def test_operator_s_kinds_broken(file: str, field: str, value: Any, told: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=told):
        check_operated(broken(document(file), field, value))
