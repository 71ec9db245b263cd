// How the delivery of a sink into a topic is: whether its provider takes messages, and why not.
import { now, type Provider, type Sink } from "../api";
import { useFeed } from "../feed";
import { ago, count, plural, size, span, time } from "../format";
import { advice, type Status } from "../health";
import { Badge, Loading, Problem, Section } from "../parts/basics";

interface Delivered {
  delivered: number;
  inFlight: number;
  retries: number;
  lag: { records: number; bytes: number; oldestAt?: string };
  provider: Provider;
}

const STATES: Record<string, Status> = {
  idle: { tone: "idle", text: "Nothing was sent yet" },
  up: { tone: "ok", text: "Takes messages" },
  down: { tone: "bad", text: "Takes no messages" },
  paused: { tone: "warn", text: "Delivery is paused" },
};

export function Delivery({ sink, path }: { sink: Sink; path: string }) {
  const feed = useFeed<Delivered>(`${path}/statistics/delivery`, 2000);
  const { data, error } = feed;
  return (
    <Section id="delivery" title="Delivery" note={sink.topic && `topic ${sink.topic.topic} of ${sink.topic.provider}`}>
      {error && <Problem error={error} title="The delivery can't be shown as it is now." onRetry={feed.refresh} />}
      {!data && !error && <Loading what="the delivery" />}
      {data?.provider.error && (
        <div class="notice bad">
          <p>
            <strong>{data.provider.name} takes no messages</strong>
            {data.provider.since && <> since {time(data.provider.since)}</>}: {data.provider.error}
          </p>
          <p class="muted">{advice(data.provider.error)}</p>
        </div>
      )}
      {data && (
        <dl class="card figures">
          <div>
            <dt>Provider</dt>
            <dd>
              <Badge {...(STATES[data.provider.state] ?? { tone: "idle", text: data.provider.state })} />
            </dd>
          </div>
          <div>
            <dt>Delivered</dt>
            <dd>{count(data.delivered)}</dd>
          </div>
          <div>
            <dt>With the provider</dt>
            <dd>{count(data.inFlight)}</dd>
          </div>
          <div>
            <dt>Waiting</dt>
            <dd>
              {plural(data.lag.records, "message")}, {size(data.lag.bytes)}
            </dd>
          </div>
          <div>
            <dt>Oldest of them</dt>
            <dd>{data.lag.oldestAt ? ago(data.lag.oldestAt, now()) : span(0)}</dd>
          </div>
          <div>
            <dt>Sent again</dt>
            <dd>{count(data.retries)}</dd>
          </div>
        </dl>
      )}
    </Section>
  );
}
