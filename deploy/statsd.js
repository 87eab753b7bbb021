// statsd of the profile `statsd` (docker-compose.cluster.yml): prints what it got every ten seconds.
{
  port: 8125,
  backends: ["./backends/console"],
  flushInterval: 10000
}
