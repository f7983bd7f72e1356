import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CodingErrorAction;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import jdk.jshell.DeclarationSnippet;
import jdk.jshell.Diag;
import jdk.jshell.EvalException;
import jdk.jshell.JShell;
import jdk.jshell.JShellException;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis;
import jdk.jshell.SourceCodeAnalysis.CompletionInfo;
import jdk.jshell.UnresolvedReferenceException;
import jdk.jshell.execution.DirectExecutionControl;
import jdk.jshell.spi.ExecutionControl;
import jdk.jshell.spi.ExecutionControlProvider;
import jdk.jshell.spi.ExecutionEnv;
import sun.misc.Signal;

/**
 * Runs the Java of one context for script_kernel.py.
 *
 * <pre>java Driver CODE_FD EVENTS_FD</pre>
 *
 * It reads requests from CODE_FD and evaluates code with JShell, in this process. It writes
 * events to EVENTS_FD, one JSON object a line. SIGINT ends the thread that runs code.
 *
 * <p>A request is a list of texts: their number, and for each its length in bytes and its UTF-8.
 * The numbers have four bytes. The length of a missing text is -1.
 */
final class Driver {
    private static final int PIECE = 64 << 10; // bytes of output in one event
    private static final int HOLD = 20; // ms that output waits for more
    private static final int CAUSES = 16; // exceptions that a traceback has at most
    private static final String[] IMPORTS = {
        "java.io", "java.math", "java.net", "java.nio.file", "java.util", "java.util.concurrent",
        "java.util.function", "java.util.prefs", "java.util.regex", "java.util.stream",
    };
    private static final Pattern SPACE = Pattern.compile("\\s++|//[^\\n]*+|(?s:/\\*.*?\\*/)");
    /** The file of a stack frame: the cell and the line of a snippet, and a number. */
    private static final Pattern PLACE = Pattern.compile("#(\\d+):(\\d+):\\d+");
    /** The names that JShell puts before those of the user's classes. */
    private static final Pattern WRAPPER = Pattern.compile("REPL\\.\\$JShell\\$\\w+[$.]");

    private final DataInputStream requests;
    private final FileOutputStream events;
    private final Properties initial = (Properties) System.getProperties().clone();
    private final Engine engine = new Engine();
    private final JShell shell;
    private final SourceCodeAnalysis analysis;

    // Output that has not been sent.
    private final StringBuilder held = new StringBuilder();
    private String heldStream = "";
    private boolean first; // nothing of the run has been sent

    // The snippet that is being evaluated: the number of its cell, and its first line there.
    private int cell;
    private int line = 1;

    private Driver(FileDescriptor code, FileDescriptor events) {
        Signal.handle(new Signal("INT"), signal -> engine.stop());
        requests = new DataInputStream(new FileInputStream(code));
        this.events = new FileOutputStream(events);
        System.setOut(stream("stdout"));
        System.setErr(stream("stderr"));
        Thread thread = new Thread(this::releaseHeld, "output");
        thread.setDaemon(true);
        thread.start();
        shell = JShell.builder()
                .executionEngine(engine, Map.of())
                .idGenerator((snippet, number) -> cell + ":" + line + ":" + number)
                .build();
        doNotIndex();
        analysis = shell.sourceCodeAnalysis();
        for (String name : IMPORTS) {
            shell.eval("import " + name + ".*;");
        }
    }

    public static void main(String[] args) {
        try {
            new Driver(descriptor(args[0]), descriptor(args[1])).serve();
            Runtime.getRuntime().halt(0); // script_kernel.py has ended
        } catch (Throwable e) {
            try {
                e.printStackTrace();
            } finally {
                Runtime.getRuntime().halt(1);
            }
        }
    }

    private static FileDescriptor descriptor(String number) throws ReflectiveOperationException {
        Constructor<FileDescriptor> made = FileDescriptor.class.getDeclaredConstructor(int.class);
        made.setAccessible(true);
        return made.newInstance(Integer.parseInt(number));
    }

    /** Keeps JShell from indexing all classes in the background, which only completions need. */
    private static void doNotIndex() {
        try {
            ThreadPoolExecutor indexer = (ThreadPoolExecutor) shared("jdk.jshell.SourceCodeAnalysisImpl", "INDEXER");
            indexer.setRejectedExecutionHandler(new ThreadPoolExecutor.DiscardPolicy());
            indexer.shutdown();
        } catch (ReflectiveOperationException | RuntimeException e) {
            // Another JDK has other internals. It indexes them.
        }
    }

    /** Returns the value of a static field that is private. */
    private static Object shared(String type, String field) throws ReflectiveOperationException {
        Field found = Class.forName(type).getDeclaredField(field);
        found.setAccessible(true);
        return found.get(null);
    }

    // Requests

    private void serve() throws IOException, ReflectiveOperationException {
        for (List<String> request = receive(); request != null; request = receive()) {
            List<String> rest = request.subList(1, request.size());
            switch (request.get(0)) {
                case "run":
                    run(rest.get(0));
                    break;
                case "env":
                    setVariables(rest);
                    break;
                case "reseed":
                    reseed();
                    break;
                default:
                    throw new IOException("unknown operation");
            }
            write("{\"end\":0}");
        }
    }

    private List<String> receive() throws IOException {
        int count;
        try {
            count = requests.readInt();
        } catch (EOFException e) {
            return null;
        }
        List<String> request = new ArrayList<>();
        while (request.size() < count) {
            int length = requests.readInt();
            request.add(length < 0 ? null : new String(requests.readNBytes(length), UTF_8));
        }
        return request;
    }

    /** Sets variables of the environment, and system properties, from names and values in turn. */
    private void setVariables(List<String> pairs) throws ReflectiveOperationException {
        Map<String, String> environment = environment();
        for (int i = 0; i < pairs.size(); i += 2) {
            String name = pairs.get(i), value = pairs.get(i + 1);
            if (value != null) {
                environment.put(name, value);
                System.setProperty(name, value);
                continue;
            }
            environment.remove(name);
            if (initial.containsKey(name)) {
                System.setProperty(name, initial.getProperty(name));
            } else {
                System.clearProperty(name);
            }
        }
    }

    /** Returns the map behind System.getenv. */
    @SuppressWarnings("unchecked")
    private static Map<String, String> environment() throws ReflectiveOperationException {
        Map<String, String> fixed = System.getenv();
        Field map = fixed.getClass().getDeclaredField("m");
        map.setAccessible(true);
        return (Map<String, String>) map.get(fixed);
    }

    /** Gives the generators of the class library that all code shares new random state. */
    private static void reseed() throws IOException, ReflectiveOperationException {
        try (DataInputStream random = new DataInputStream(new FileInputStream("/dev/urandom"))) {
            ((Random) shared("java.lang.Math$RandomNumberGeneratorHolder", "randomNumberGenerator")).setSeed(random.readLong());
            ((AtomicLong) shared("java.util.Random", "seedUniquifier")).set(random.readLong() | 1); // it is multiplied
            ((AtomicLong) shared("java.util.SplittableRandom", "defaultGen")).set(random.readLong());
            ((AtomicLong) shared("java.util.concurrent.ThreadLocalRandom", "seeder")).set(random.readLong());
        }
    }

    // Code

    /** Evaluates the snippets of a cell in turn, until one fails. */
    private void run(String code) {
        engine.stopped = false;
        cell++;
        synchronized (this) {
            first = true;
        }
        try {
            Object value = null;
            List<SnippetEvent> declared = new ArrayList<>();
            for (String rest = code; rest != null;) {
                rest = rest.substring(space(rest)); // the lines of some snippets would not count it
                CompletionInfo next = analysis.analyzeCompletion(rest);
                String source;
                int start = code.length() - rest.length();
                line = 1 + (int) code.substring(0, start).chars().filter(c -> c == '\n').count();
                switch (next.completeness()) {
                    case EMPTY:
                        source = rest = null;
                        break;
                    case COMPLETE:
                    case COMPLETE_WITH_SEMI:
                        source = next.source();
                        rest = next.remaining();
                        break;
                    default:
                        source = rest; // the compiler tells the error
                        rest = null;
                        break;
                }
                if (source == null) {
                    break;
                }
                value = null;
                engine.value = null;
                List<SnippetEvent> evaluated = shell.eval(source);
                if (evaluated.isEmpty()) {
                    fail("CompilationException", "the code is incomplete", List.of());
                    return;
                }
                for (SnippetEvent event : evaluated) {
                    if (event.causeSnippet() != null) {
                        continue; // an earlier snippet, which refers to this one
                    }
                    if (engine.stopped) {
                        break;
                    }
                    if (event.status() == Snippet.Status.REJECTED) {
                        failToCompile(event.snippet(), code, start);
                        return;
                    }
                    if (event.exception() != null) {
                        fail(event.exception());
                        return;
                    }
                    declared.add(event);
                    if (isResult(event.snippet())) {
                        value = engine.value;
                    }
                }
                if (engine.stopped) {
                    fail("KeyboardInterrupt", "interrupted", List.of());
                    return;
                }
            }
            show(value);
            warn(declared);
        } catch (Throwable e) {
            if (engine.stopped) {
                fail("KeyboardInterrupt", "interrupted", List.of());
            } else {
                fail(e);
            }
        } finally {
            engine.value = null;
        }
    }

    /** Returns the length of the white space and the comments that text begins with. */
    private static int space(String text) {
        Matcher space = SPACE.matcher(text);
        int at = 0;
        while (space.region(at, text.length()).lookingAt()) {
            at = space.end();
        }
        return at;
    }

    private static boolean isResult(Snippet snippet) {
        switch (snippet.subKind()) {
            case VAR_VALUE_SUBKIND:
            case TEMP_VAR_EXPRESSION_SUBKIND:
            case OTHER_EXPRESSION_SUBKIND:
                return true;
            default:
                return false;
        }
    }

    private void show(Object value) throws Exception {
        if (value == null) {
            return;
        }
        String text = engine.call(() -> {
            if (value.getClass().isArray()) {
                String list = Arrays.deepToString(new Object[] {value});
                return list.substring(1, list.length() - 1);
            }
            return String.valueOf(value);
        });
        write("{\"main\":true,\"data\":{\"text/plain\":" + quote(text) + "}}");
    }

    /** Tells which declarations cannot be used yet, because they refer to missing ones. */
    private void warn(List<SnippetEvent> declared) {
        for (SnippetEvent event : declared) {
            Snippet.Status status = shell.status(event.snippet());
            if (status == Snippet.Status.RECOVERABLE_DEFINED || status == Snippet.Status.RECOVERABLE_NOT_DEFINED) {
                DeclarationSnippet snippet = (DeclarationSnippet) event.snippet();
                System.err.println(snippet.name() + missing(snippet));
            }
        }
    }

    private String missing(DeclarationSnippet snippet) {
        List<String> names = shell.unresolvedDependencies(snippet).collect(Collectors.toList());
        if (names.isEmpty()) {
            String reason = shell.diagnostics(snippet).map(d -> d.getMessage(Locale.ENGLISH)).collect(Collectors.joining("; "));
            return " cannot be used: " + reason;
        }
        return " cannot be used until these are declared: " + String.join(", ", names);
    }

    // Errors

    private void failToCompile(Snippet snippet, String code, int start) {
        String value = "";
        List<String> traceback = new ArrayList<>();
        for (Diag found : shell.diagnostics(snippet).collect(Collectors.toList())) {
            if (!found.isError()) {
                continue;
            }
            List<String> message = found.getMessage(Locale.ENGLISH).lines()
                    .filter(text -> !text.stripLeading().startsWith("location:")).collect(Collectors.toList());
            if (traceback.isEmpty()) {
                value = String.join("\n", message);
            }
            int at = found.getPosition() == Diag.NOPOS ? start : Math.min(start + (int) found.getPosition(), code.length());
            int begin = code.lastIndexOf('\n', at - 1) + 1, end = code.indexOf('\n', at);
            long number = 1 + code.substring(0, begin).chars().filter(c -> c == '\n').count();
            traceback.add("cell " + cell + ":" + number + ": error: " + String.join("\n", message));
            traceback.add(code.substring(begin, end < 0 ? code.length() : end));
            traceback.add(code.substring(begin, at).replaceAll("[^\t]", " ") + "^");
        }
        fail("CompilationException", value, traceback);
    }

    private void fail(Throwable e) {
        List<String> traceback = new ArrayList<>();
        String value = messageOf(e);
        Throwable cause = e;
        for (int i = 0; i < CAUSES && cause != null; i++, cause = cause.getCause()) {
            String name = WRAPPER.matcher(className(cause)).replaceAll("");
            String message = messageOf(cause);
            traceback.add((cause == e ? "" : "Caused by: ") + name + (message.isEmpty() ? "" : ": " + message));
            for (StackTraceElement frame : cause.getStackTrace()) {
                if (!(cause instanceof JShellException) && frame.getClassName().startsWith("Driver")) {
                    break;
                }
                traceback.add("    at " + WRAPPER.matcher(place(frame)).replaceAll(""));
            }
        }
        String name = className(e);
        fail(name.substring(1 + Math.max(name.lastIndexOf('.'), name.lastIndexOf('$'))), value, traceback);
    }

    private static String className(Throwable e) {
        return e instanceof EvalException ? ((EvalException) e).getExceptionClassName() : e.getClass().getName();
    }

    private String messageOf(Throwable e) {
        if (e instanceof UnresolvedReferenceException) {
            DeclarationSnippet snippet = ((UnresolvedReferenceException) e).getSnippet();
            return snippet.name() + missing(snippet);
        }
        return e.getMessage() == null ? "" : WRAPPER.matcher(e.getMessage()).replaceAll("");
    }

    private static String place(StackTraceElement frame) {
        Matcher own = PLACE.matcher(String.valueOf(frame.getFileName()));
        if (!own.matches()) {
            return frame.toString();
        }
        int line = Integer.parseInt(own.group(2)) + frame.getLineNumber() - 1;
        String name = frame.getClassName() + (frame.getClassName().isEmpty() || frame.getMethodName().isEmpty() ? "" : ".") + frame.getMethodName();
        return name + "(cell " + own.group(1) + ":" + line + ")";
    }

    private void fail(String name, String value, List<String> traceback) {
        String lines = traceback.stream().map(Driver::quote).collect(Collectors.joining(","));
        write("{\"error\":{\"name\":" + quote(name) + ",\"value\":" + quote(value) + ",\"traceback\":[" + lines + "]}}");
    }

    // Events

    /**
     * Holds output of a stream for a moment, so that small pieces become one event. The first of a
     * run goes out at once.
     */
    private synchronized void output(String stream, String text) {
        if (!stream.equals(heldStream)) {
            release();
        }
        heldStream = stream;
        held.append(text);
        if (first || held.length() >= PIECE) {
            release();
        } else {
            notifyAll();
        }
        first = false;
    }

    private synchronized void release() {
        if (held.length() == 0) {
            return;
        }
        String text = held.toString();
        held.setLength(0);
        send("{\"stream\":\"" + heldStream + "\",\"text\":" + quote(text) + "}");
    }

    /** Releases output again and again. User code may interrupt all threads: it goes on then. */
    private void releaseHeld() {
        while (true) {
            try {
                synchronized (this) {
                    while (held.length() == 0) {
                        wait();
                    }
                }
                Thread.sleep(HOLD);
            } catch (InterruptedException e) {
                // The output goes out sooner.
            }
            release();
        }
    }

    /** Writes an event, after the output before it. */
    private synchronized void write(String event) {
        release();
        send(event);
    }

    /** Sends an event whole, also if an interrupt ends the thread. */
    private void send(String event) {
        try {
            events.write((event + "\n").getBytes(UTF_8));
        } catch (IOException e) {
            Runtime.getRuntime().halt(1); // script_kernel.py has ended
        }
    }

    private static String quote(String text) {
        StringBuilder out = new StringBuilder(text.length() + 2).append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    /** Returns a stream for the user's code. A subclass writes a line and its end one after the other. */
    private PrintStream stream(String name) {
        return new PrintStream(new Events(name), true, UTF_8) {};
    }

    /** Makes events of the bytes of a stream. */
    private final class Events extends OutputStream {
        private final String name;
        private final CharsetDecoder decoder =
                UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPLACE).onUnmappableCharacter(CodingErrorAction.REPLACE);
        private byte[] rest = {}; // a character that is not whole yet

        Events(String name) {
            this.name = name;
        }

        @Override
        public void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public synchronized void write(byte[] bytes, int at, int length) {
            for (int end = at + length; at < end; at += PIECE) {
                int size = Math.min(PIECE, end - at);
                ByteBuffer in = ByteBuffer.allocate(rest.length + size).put(rest).put(bytes, at, size).flip();
                CharBuffer text = CharBuffer.allocate(in.remaining());
                decoder.reset().decode(in, text, false);
                rest = Arrays.copyOfRange(in.array(), in.position(), in.limit());
                if (text.position() > 0) {
                    output(name, text.flip().toString());
                }
            }
        }
    }

    /** Runs what JShell has compiled, each time in a thread that stop can end. */
    private static final class Engine extends DirectExecutionControl implements ExecutionControlProvider {
        volatile Object value; // of the newest snippet
        volatile boolean stopped; // no more code of the run may begin
        private Thread thread; // runs code

        @Override
        public String name() {
            return "driver";
        }

        @Override
        public ExecutionControl generate(ExecutionEnv env, Map<String, String> parameters) {
            return this;
        }

        @Override
        protected String invoke(Method method) throws Exception {
            value = call(() -> method.invoke(null));
            return "";
        }

        /** Runs code in a thread of its own. It throws StoppedException if stop has ended the thread. */
        <T> T call(Callable<T> code) throws Exception {
            class Run implements Runnable {
                T result;
                Throwable failure = new ThreadDeath();

                @Override
                public void run() {
                    try {
                        result = code.call();
                        failure = null;
                    } catch (Throwable e) {
                        failure = e;
                    }
                }
            }
            Run run = new Run();
            Thread made = new Thread(run, "cell");
            synchronized (this) {
                if (stopped) {
                    throw new StoppedException();
                }
                thread = made;
                made.start();
            }
            made.join();
            synchronized (this) {
                thread = null;
            }
            Throwable failure = run.failure;
            if (failure instanceof ThreadDeath || failure instanceof InvocationTargetException && failure.getCause() instanceof ThreadDeath) {
                stopped = true;
                throw new StoppedException();
            }
            if (failure instanceof Error) {
                throw (Error) failure;
            }
            if (failure != null) {
                throw (Exception) failure;
            }
            return run.result;
        }

        /** Ends the thread that runs code, and lets no other begin. */
        @Override
        @SuppressWarnings({"deprecation", "removal"})
        public synchronized void stop() {
            stopped = true;
            if (thread != null) {
                thread.stop();
            }
        }
    }
}
