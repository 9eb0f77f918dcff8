# Writes a C++ file that holds the text of every schema: cmake -D OUTPUT=… -D FILES="a;b" -P EmbedSchemas.cmake
set(body "#include \"schema/embedded.hpp\"\nnamespace bl::schema {\nconst std::vector<Embedded>& embedded() {\n  static const std::vector<Embedded> files = {\n")
foreach(file ${FILES})
  file(READ ${file} text)
  cmake_path(GET file STEM LAST_ONLY stem)
  string(APPEND body "    {\"${stem}\", R\"SCHEMA(${text})SCHEMA\"},\n")
endforeach()
string(APPEND body "  };\n  return files;\n}\n}\n")
file(WRITE ${OUTPUT} "${body}")
