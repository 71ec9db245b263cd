// Delivery status of a topic, and of its provider.
import { now, type Provider, type Sink } from "../api";
import { useFeed } from "../feed";
import { ago, count, plural, size, span, time } from "../format";
import { advice, type Status } from "../health";
import { Badge, Loading, Problem, Section } from "../parts/basics";
import { RetryButton } from "../parts/retry";

interface Delivered {
  delivered: number;
  inFlight: number;
  retries: number;
  lag: { records: number; bytes: number; oldestAt?: string };
  provider: Provider;
}

const STATES: Record<string, Status> = {
  idle: { tone: "idle", text: "Nothing sent yet" },
  up: { tone: "ok", text: "Available" },
  down: { tone: "bad", text: "Unavailable" },
  paused: { tone: "warn", text: "Paused" },
};

export function Delivery({ sink, path }: { sink: Sink; path: string }) {
  const feed = useFeed<Delivered>(`${path}/statistics/delivery`, 2000);
  const { data, error } = feed;
  return (
    <Section id="delivery" title="Delivery" note={sink.topic && `topic ${sink.topic.topic} of ${sink.topic.provider}`}>
      {error && <Problem error={error} title="Can't refresh the delivery status." onRetry={feed.refresh} />}
      {!data && !error && <Loading what="the delivery status" />}
      {data?.provider.error && (
        <div class="notice bad">
          <p>
            <strong>{data.provider.name} is unavailable</strong>
            {data.provider.since && <> since {time(data.provider.since)}</>}: {data.provider.error}
          </p>
          <p class="muted">{advice(data.provider.error)}</p>
          {!sink.paused && <RetryButton path={path} onDone={feed.refresh} />}
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
            <dt>In flight</dt>
            <dd>{count(data.inFlight)}</dd>
          </div>
          <div>
            <dt>Waiting</dt>
            <dd>
              {plural(data.lag.records, "message")}, {size(data.lag.bytes)}
            </dd>
          </div>
          <div>
            <dt>Oldest message</dt>
            <dd>{data.lag.oldestAt ? ago(data.lag.oldestAt, now()) : span(0)}</dd>
          </div>
          <div>
            <dt>Retries</dt>
            <dd>{count(data.retries)}</dd>
          </div>
        </dl>
      )}
    </Section>
  );
}
