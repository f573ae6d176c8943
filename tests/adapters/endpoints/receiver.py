"""What a receiver's libraries make of a post.

Reads {"check": ..., "secret": ..., "headers": {...}, "body": "..."} from stdin and prints what the library returns, as JSON. Ends with
an exception if the library refuses the post.
"""

import json
import sys

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from standardwebhooks.webhooks import Webhook


def shown(event: BaseCloudEvent) -> dict[str, object]:
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    return {"attributes": attributes, "data": event.get_data()}


def structured(element: object) -> BaseCloudEvent:
    headers = {"content-type": "application/cloudevents+json"}
    return from_structured_event(HTTPMessage(headers, json.dumps(element).encode()))


def main() -> None:
    post = json.load(sys.stdin)
    match post["check"]:
        case "signature":
            result = Webhook(post["secret"]).verify(post["body"], post["headers"])
        case "event":
            result = shown(from_binary_event(HTTPMessage(post["headers"], post["body"].encode())))
        case "batch":
            # The SDK has no function for a batch: each element is an event in structured mode.
            result = [shown(structured(element)) for element in json.loads(post["body"])]
        case check:
            raise ValueError(check)
    json.dump(result, sys.stdout)


main()
