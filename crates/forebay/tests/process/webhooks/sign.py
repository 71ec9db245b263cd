"""Signs requests as webhook senders do, by their own libraries where they have one.

Standard input has a list of {"type", "secret", "body", "age"}; the age is in seconds. Standard output
has the headers of each.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from datetime import datetime, timezone

from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook as StandardWebhook
from stripe import Webhook as StripeWebhook
from stripe import WebhookSignature
from svix.webhooks import Webhook as SvixWebhook


def stripe(secret, body, at):
    header = WebhookSignature.generate_signature_header(body, secret, timestamp=at)
    StripeWebhook.construct_event(body, header, secret, tolerance=None)
    return {"Stripe-Signature": header}


def slack(secret, body, at):
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(at), body=body)
    return {"X-Slack-Request-Timestamp": str(at), "X-Slack-Signature": signature}


def standard(prefix, library):
    def headers(secret, body, at):
        sent = datetime.fromtimestamp(at, tz=timezone.utc)
        signature = library(secret).sign(msg_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", timestamp=sent, data=body)
        return {
            f"{prefix}-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
            f"{prefix}-timestamp": str(at),
            f"{prefix}-signature": signature,
        }

    return headers


# These senders have no library that signs in Python; these are the steps of their documentation.
def github(secret, body, at):
    digest = hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def shopify(secret, body, at):
    digest = hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest()
    return {"X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode()}


def own(secret, body, at):
    digest = hmac.new(secret.encode(), body.encode(), hashlib.sha512).digest()
    return {"X-Signature": "v2 " + base64.b64encode(digest).decode()}


SENDERS = {
    "github": github,
    "hmac": own,
    "shopify": shopify,
    "slack": slack,
    "standard": standard("webhook", StandardWebhook),
    "stripe": stripe,
    "svix": standard("svix", SvixWebhook),
}

requests = json.load(sys.stdin)
now = int(time.time())
json.dump([SENDERS[r["type"]](r["secret"], r["body"], now - r["age"]) for r in requests], sys.stdout)
