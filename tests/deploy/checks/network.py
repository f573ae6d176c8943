"""Selectors, ports, probes and network policies."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from manifests import Document, Documents, Workload, of_kind, selects, settings, stateful, title, workloads

# What the gateway answers at ADMIN_BIND.
PROBES = {
    "startupProbe": "/health/startup",
    "livenessProbe": "/health/live",
    "readinessProbe": "/health/ready",
}
METRICS = "/metrics"

# Where clouds keep the credentials of nodes.
METADATA_SERVICE = ip_address("169.254.169.254")

# Ports of what the gateway talks to: names, broker (plain and TLS), MariaDB and PostgreSQL, endpoints.
NEEDED = [("UDP", 53), ("TCP", 53), ("TCP", 1883), ("TCP", 8883), ("TCP", 3306), ("TCP", 5432), ("TCP", 443)]

# Namespaces that flows may post to, and the ports on which their pods may listen.
ENDPOINTS = {"mqtt-gateway/endpoints": "true"}
ENDPOINT_PORTS = {80, 443, 8080, 8443}


def selectors_take_the_right_pods(documents: Documents) -> list[str]:
    complaints = []
    gateways = list(stateful(documents))
    others = [workload for workload in workloads(documents) if not workload.is_stateful]
    for place, selector in _selectors_of_pods(documents):
        if not selector.get("matchLabels"):
            complaints.append(f"{place} selects by nothing")
        complaints += [f"{place} misses {pod.name}" for pod in gateways if not selects(selector, pod.labels)]
        complaints += [f"{place} takes {pod.name}" for pod in others if selects(selector, pod.labels)]
    for monitor in of_kind(documents, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]
        if not any(selects(selector, service["metadata"]["labels"]) for service in of_kind(documents, "Service")):
            complaints.append(f"{title(monitor)} selects no Service")
    return complaints


def _selectors_of_pods(documents: Documents) -> Iterator[tuple[str, Document]]:
    for service in of_kind(documents, "Service"):
        yield title(service), {"matchLabels": service["spec"].get("selector")}
    for budget in of_kind(documents, "PodDisruptionBudget"):
        yield title(budget), budget["spec"]["selector"]
    for workload in stateful(documents):
        yield workload.name, workload.document["spec"]["selector"]
        for spread in workload.pod.get("topologySpreadConstraints", []):
            yield f"{workload.name} spread over {spread['topologyKey']}", spread.get("labelSelector", {})


def ports_lead_to_the_gateway(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        if workload.document["spec"]["serviceName"] not in _names(documents, "Service"):
            complaints.append(f"{workload.name}: there is no Service {workload.document['spec']['serviceName']}")
        ports = _ports(workload)
        for service in of_kind(documents, "Service"):
            for port in service["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in {*ports, *ports.values()}:
                    complaints.append(f"{title(service)}: no container has the port {port.get('targetPort')}")
        bind = settings(documents, workload).get("ADMIN_BIND")
        host, _, number = ((bind and bind.value) or "").rpartition(":")
        if not number.isdigit() or int(number) != ports.get("admin"):
            complaints.append(f"{workload.name}: ADMIN_BIND is not the port admin ({ports.get('admin')})")
        if host not in ("0.0.0.0", "[::]"):
            complaints.append(f"{workload.name}: kubelet does not reach ADMIN_BIND at {host}")
    return complaints


def _names(documents: Documents, kind: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(documents, kind)}


def _ports(workload: Workload) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in workload.gateway.get("ports", [])}


def probes_ask_what_the_gateway_answers(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        for probe, path in PROBES.items():
            request = workload.gateway.get(probe, {}).get("httpGet", {})
            if request.get("path") != path:
                complaints.append(f"{workload.name}: {probe} asks {request.get('path')}, not {path}")
            if request.get("port") not in _ports(workload):
                complaints.append(f"{workload.name}: {probe} asks the port {request.get('port')}")
    return complaints


def metrics_are_scraped_once(documents: Documents) -> list[str]:
    """By a ServiceMonitor or by annotations, not by both, and at the right place."""
    complaints = []
    monitors = of_kind(documents, "ServiceMonitor")
    service_ports = {
        port["name"] for service in of_kind(documents, "Service") for port in service["spec"]["ports"]
    }
    for monitor in monitors:
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in service_ports or endpoint.get("path") != METRICS:
                complaints.append(f"{title(monitor)}: {endpoint['port']} {endpoint.get('path')} is not there")
    for workload in stateful(documents):
        annotations = workload.template["metadata"].get("annotations", {})
        wanted = {"scrape": "true", "port": str(_ports(workload).get("admin")), "path": METRICS}
        found = {key: annotations.get(f"prometheus.io/{key}") for key in wanted}
        if monitors and any(found.values()):
            complaints.append(f"{workload.name}: scraped by ServiceMonitor and by annotations")
        if not monitors and found != wanted:
            complaints.append(f"{workload.name}: nobody scrapes it rightly: {found}")
    return complaints


def _policies(documents: Documents, workload: Workload, direction: str) -> Documents:
    return [
        policy
        for policy in of_kind(documents, "NetworkPolicy")
        if direction in policy["spec"].get("policyTypes", [])
        and selects(policy["spec"]["podSelector"], workload.labels)
    ]


def all_traffic_is_denied_by_default(documents: Documents) -> list[str]:
    for policy in of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        both = {"Ingress", "Egress"} <= set(spec.get("policyTypes", []))
        if not spec["podSelector"] and both and not spec.get("ingress") and not spec.get("egress"):
            return []
    return ["no policy denies everything to all pods of the namespace"]


def _rules(documents: Documents, workload: Workload, direction: str) -> Iterator[tuple[str, Document]]:
    for policy in _policies(documents, workload, direction):
        for rule in policy["spec"].get(direction.lower(), []):
            yield title(policy), rule


def the_gateway_reaches_what_it_needs(documents: Documents) -> list[str]:
    """And nothing by a rule without ports or without peers, nor the metadata service of a cloud."""
    complaints = []
    for workload in workloads(documents):
        rules = list(_rules(documents, workload, "Egress"))
        open_ports = {(port["protocol"], port["port"]) for _, rule in rules for port in rule.get("ports", [])}
        complaints += [f"{workload.name} may not use {wanted}" for wanted in NEEDED if wanted not in open_ports]
        for name, rule in rules:
            if not rule.get("ports") or not rule.get("to"):
                complaints.append(f"{name} has a rule for everything")
            complaints += [
                f"{name} opens the metadata service"
                for peer in rule.get("to", [])
                if _holds(peer.get("ipBlock"), METADATA_SERVICE)
            ]
    return complaints


def _holds(block: Document | None, address: Any) -> bool:
    if block is None or ip_network(block["cidr"]).version != address.version:
        return False
    excepted = any(address in ip_network(network) for network in block.get("except", []))
    return address in ip_network(block["cidr"]) and not excepted


def endpoints_in_the_cluster_are_reached(documents: Documents) -> list[str]:
    """By a label of their namespace: Cilium takes no pod for an address, and the ports are those of the pods."""
    complaints = []
    for workload in workloads(documents):
        open_ports = {
            port["port"]
            for _, rule in _rules(documents, workload, "Egress")
            if any(peer.get("namespaceSelector") == {"matchLabels": ENDPOINTS} for peer in rule.get("to", []))
            for port in rule.get("ports", [])
        }
        complaints += [
            f"{workload.name} may not post to port {port} in the cluster" for port in sorted(ENDPOINT_PORTS - open_ports)
        ]
    return complaints


def only_monitoring_comes_in(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        rules = list(_rules(documents, workload, "Ingress"))
        if not rules:
            complaints.append(f"{workload.name}: Prometheus may not come in")
        for name, rule in rules:
            if [port["port"] for port in rule.get("ports", [])] != ["admin"]:
                complaints.append(f"{name} opens more or less than the port admin")
            peers = rule.get("from", [])
            if not peers or any(not peer.get("namespaceSelector", {}).get("matchLabels") for peer in peers):
                complaints.append(f"{name} lets in more than a namespace")
    return complaints
