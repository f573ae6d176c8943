"""Schemas in strict mode: an unknown field is an error, as a server that is asked to be strict has it."""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path

import jsonschema
import kubernetes_validate

from manifests import Document, Documents, title

# The oldest Kubernetes in which no field that is used here is a beta, and the newest that the package knows.
OLDEST = "1.31"
VERSIONS = (OLDEST, kubernetes_validate.latest_version())

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"

# Kinds that are no part of Kubernetes, and the file with what is used of them.
CUSTOM = {"ServiceMonitor": "servicemonitor.json", "ScaledObject": "scaledobject.json"}


def documents_are_valid(documents: Documents) -> list[str]:
    return [
        f"{title(document)}: {complaint}"
        for document in documents
        for complaint in _complaints(json.dumps(document, sort_keys=True))
    ]


@functools.cache
def _complaints(text: str) -> list[str]:
    """Remembered: most documents are the same in all renderings, and the schemas are large."""
    document: Document = json.loads(text)
    if document["kind"] in CUSTOM:
        schema = json.loads((SCHEMAS / CUSTOM[document["kind"]]).read_text())
        errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
        return [f"{error.json_path}: {error.message}" for error in errors]
    complaints = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.path)
            complaints.append(f"{place}: {error.message} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError:
            complaints.append(f"Kubernetes {version} has no {document['apiVersion']} {document['kind']}")
    return complaints


def documents_are_unique(documents: Documents) -> list[str]:
    """No two documents of a kind and name, and everything in the one namespace."""
    counted = Counter(title(document) for document in documents)
    complaints = [f"{name} is there {count} times" for name, count in counted.items() if count > 1]
    namespaces = {document["metadata"].get("namespace") for document in documents}
    if len(namespaces) != 1 or None in namespaces:
        complaints.append(f"documents stand in several namespaces, or in none: {namespaces}")
    return complaints


def kinds_are_those_of_every_cluster(documents: Documents) -> list[str]:
    """What is applied as it stands needs no operator: the rest would be applied without it, and nobody would notice."""
    return [f"{title(document)} needs an operator" for document in documents if document["kind"] in CUSTOM]
