import io.github.resilience4j.circuitbreaker.CircuitBreaker;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig;
import io.github.resilience4j.circuitbreaker.IllegalStateTransitionException;
import io.github.resilience4j.circuitbreaker.event.*;
import io.github.resilience4j.circuitbreaker.internal.CircuitBreakerStateMachine;
import io.github.resilience4j.circuitbreaker.internal.SchedulerFactory;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/**
 * Plays a trace from stdin, in the language of breaker_driver.c, into the real
 * Resilience4j and prints what it shows after each step. See record.py.
 */
public class Recorder {

    private static final CircuitBreaker.State[] STATES = {
        CircuitBreaker.State.CLOSED, CircuitBreaker.State.OPEN,
        CircuitBreaker.State.HALF_OPEN, CircuitBreaker.State.DISABLED,
        CircuitBreaker.State.FORCED_OPEN, CircuitBreaker.State.METRICS_ONLY
    };

    private static final long MS = 1_000_000;
    private static final long SECOND = 1_000_000_000;
    private static final long YEAR_MS = 365L * 86400 * 1000;

    /** A call that the breaker is told to ignore. */
    private static class Ignored extends IOException {
    }

    private static class Timer {
        private long at;
        private Runnable task;
        private boolean done;
    }

    private long now;
    private final List<Timer> timers = new ArrayList<>();
    private final Set<String> permitted = new HashSet<>();
    private final StringBuilder events = new StringBuilder();
    private CircuitBreaker breaker;

    private final Clock clock = new Clock() {
        @Override
        public ZoneId getZone() {
            return ZoneOffset.UTC;
        }

        @Override
        public Clock withZone(ZoneId zone) {
            return this;
        }

        @Override
        public Instant instant() {
            return Instant.ofEpochSecond(now / SECOND, now % SECOND);
        }
    };

    public static void main(String[] args) throws IOException {
        Recorder recorder = new Recorder();
        BufferedReader in =
            new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(System.out, false);
        SchedulerFactory.set(recorder.scheduler());
        for (String line = in.readLine(); line != null;
             line = in.readLine()) {
            out.println(recorder.play(line.split(" ")));
        }
        out.flush();
    }

    private ScheduledExecutorService scheduler() {
        return (ScheduledExecutorService) Proxy.newProxyInstance(
            Recorder.class.getClassLoader(),
            new Class<?>[] {ScheduledExecutorService.class},
            (proxy, method, args) -> {
                if (!method.getName().equals("schedule")) {
                    throw new UnsupportedOperationException(method.getName());
                }
                Timer timer = new Timer();
                timer.task = (Runnable) args[0];
                timer.at = now + ((TimeUnit) args[2]).toNanos((Long) args[1]);
                timers.add(timer);
                return future(timer);
            });
    }

    private Object future(Timer timer) {
        return Proxy.newProxyInstance(
            Recorder.class.getClassLoader(),
            new Class<?>[] {ScheduledFuture.class},
            (proxy, method, args) -> {
                if (method.getName().equals("cancel")) {
                    timer.done = true;
                    return true;
                }
                if (method.getName().equals("isDone")) {
                    return timer.done;
                }
                throw new UnsupportedOperationException(method.getName());
            });
    }

    private void runTimers() {
        for (Timer timer : new ArrayList<>(timers)) {
            if (!timer.done && timer.at <= now) {
                timer.done = true;
                timer.task.run();
            }
        }
        timers.removeIf(timer -> timer.done);
    }

    private String play(String[] words) {
        String answer = words[0];
        if (answer.equals("config")) {
            configure(words);
            return show(answer);
        }
        if (answer.equals("release")) {
            if (permitted.remove(words[1])) {
                breaker.releasePermission();
            }
            return show(answer);
        }

        now = Long.parseLong(words[1]);
        runTimers();
        switch (answer) {
            case "acquire":
                boolean yes = breaker.tryAcquirePermission();
                if (yes) {
                    permitted.add(words[2]);
                }
                return show("acquire=" + (yes ? 1 : 0));
            case "result":
                if (permitted.remove(words[2])) {
                    result(words[3], Long.parseLong(words[4]));
                }
                return show(answer);
            case "force":
                return show("force=" + force(Integer.parseInt(words[2])));
            case "reset":
                // The library forgets to: see payment_breaker.h.
                timers.clear();
                breaker.reset();
                return show(answer);
            case "tick":
                return show(answer);
            default:
                throw new IllegalArgumentException(answer);
        }
    }

    private void configure(String[] words) {
        now = Long.parseLong(words[13]);
        timers.clear();
        permitted.clear();
        events.setLength(0);

        long wait = Long.parseLong(words[8]);
        long growth = Long.parseLong(words[12]);
        CircuitBreakerConfig.Builder config = CircuitBreakerConfig.custom()
            .failureRateThreshold(Float.parseFloat(words[1]))
            .slowCallRateThreshold(Float.parseFloat(words[2]))
            .slowCallDurationThreshold(
                Duration.ofNanos(Long.parseLong(words[3])))
            .slidingWindowType(words[4].equals("time")
                ? CircuitBreakerConfig.SlidingWindowType.TIME_BASED
                : CircuitBreakerConfig.SlidingWindowType.COUNT_BASED)
            .slidingWindowSize(Integer.parseInt(words[5]))
            .minimumNumberOfCalls(Integer.parseInt(words[6]))
            .permittedNumberOfCallsInHalfOpenState(Integer.parseInt(words[7]))
            .maxWaitDurationInHalfOpenState(
                Duration.ofNanos(Long.parseLong(words[9])))
            .transitionToStateAfterWaitDuration(
                STATES[Integer.parseInt(words[10])])
            .automaticTransitionFromOpenToHalfOpenEnabled(
                words[11].equals("1"))
            .ignoreException(e -> e instanceof Ignored)
            .clock(clock);
        if (growth == 0) {
            config.waitDurationInOpenState(Duration.ofNanos(wait));
        } else {
            config.waitIntervalFunctionInOpenState(
                attempts -> interval(wait / 1000 / MS, growth, attempts));
        }

        breaker = new CircuitBreakerStateMachine("recorded", config.build(),
            SchedulerFactory.getInstance());
        breaker.getEventPublisher().onEvent(this::event);
    }

    private static long interval(long ms, long growth, int attempts) {
        long wait = ms;
        for (int i = 1; i < attempts && wait < YEAR_MS; i++) {
            wait *= growth;
            if (growth == 1) {
                break;
            }
        }
        return Math.min(Math.max(wait, 1), YEAR_MS);
    }

    private void result(String outcome, long duration) {
        if (outcome.equals("success")) {
            breaker.onSuccess(duration, TimeUnit.NANOSECONDS);
        } else {
            breaker.onError(duration, TimeUnit.NANOSECONDS,
                outcome.equals("failure") ? new IOException()
                    : new Ignored());
        }
    }

    private int force(int state) {
        try {
            switch (state) {
                case 0:
                    breaker.transitionToClosedState();
                    return 0;
                case 1:
                    breaker.transitionToOpenState();
                    return 0;
                case 2:
                    breaker.transitionToHalfOpenState();
                    return 0;
                case 3:
                    breaker.transitionToDisabledState();
                    return 0;
                case 4:
                    breaker.transitionToForcedOpenState();
                    return 0;
                case 5:
                    breaker.transitionToMetricsOnlyState();
                    return 0;
                default:
                    return -1;
            }
        } catch (IllegalStateTransitionException e) {
            return -1;
        }
    }

    private void event(CircuitBreakerEvent event) {
        events.append(' ').append(event.getEventType());
        if (event instanceof CircuitBreakerOnSuccessEvent) {
            events.append(':').append(((CircuitBreakerOnSuccessEvent) event)
                .getElapsedDuration().toNanos());
        } else if (event instanceof CircuitBreakerOnErrorEvent) {
            events.append(':').append(((CircuitBreakerOnErrorEvent) event)
                .getElapsedDuration().toNanos());
        } else if (event instanceof CircuitBreakerOnIgnoredErrorEvent) {
            events.append(':').append(
                ((CircuitBreakerOnIgnoredErrorEvent) event)
                .getElapsedDuration().toNanos());
        } else if (event instanceof CircuitBreakerOnStateTransitionEvent) {
            CircuitBreaker.StateTransition transition =
                ((CircuitBreakerOnStateTransitionEvent) event)
                .getStateTransition();
            events.append(':').append(transition.getFromState())
                .append(':').append(transition.getToState());
        } else if (event instanceof CircuitBreakerOnFailureRateExceededEvent) {
            events.append(':').append(
                ((CircuitBreakerOnFailureRateExceededEvent) event)
                .getFailureRate());
        } else if (event
                   instanceof CircuitBreakerOnSlowCallRateExceededEvent) {
            events.append(':').append(
                ((CircuitBreakerOnSlowCallRateExceededEvent) event)
                .getSlowCallRate());
        }
    }

    private String show(String answer) {
        CircuitBreaker.Metrics m = breaker.getMetrics();
        String shown = String.format("%s %s %s,%s %d,%d,%d,%d,%d,%d %d%s",
            answer, breaker.getState(), m.getFailureRate(),
            m.getSlowCallRate(), m.getNumberOfBufferedCalls(),
            m.getNumberOfSuccessfulCalls(), m.getNumberOfFailedCalls(),
            m.getNumberOfSlowCalls(), m.getNumberOfSlowSuccessfulCalls(),
            m.getNumberOfSlowFailedCalls(), m.getNumberOfNotPermittedCalls(),
            events);
        events.setLength(0);
        return shown;
    }
}
