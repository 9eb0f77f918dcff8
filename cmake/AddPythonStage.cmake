# add_python_stage(<bl-name> VENV <folder> VARIABLE <environment variable>): a stage in Python, for a library that exists only
# there. The build makes a launcher that finds its code and its environment (python/make_venv.sh). The folder holds
# bl_<name>.py, the package beamline_<name> and requirements.txt.
function(add_python_stage name)
  cmake_parse_arguments(arg "" "VENV;VARIABLE" "" ${ARGN})
  string(REPLACE "bl-" "" short ${name})
  set(permissions OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  set(CODE "\"${CMAKE_CURRENT_SOURCE_DIR}\"")
  set(PYTHON "\"${CMAKE_SOURCE_DIR}/python\"")
  set(VENVS "\"${CMAKE_BINARY_DIR}/${arg_VENV}\" \"${CMAKE_SOURCE_DIR}/${arg_VENV}\"")
  configure_file(${CMAKE_SOURCE_DIR}/cmake/python_stage.in ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${name} @ONLY FILE_PERMISSIONS ${permissions})

  # Installed, the code lies in share/beamline beside bin.
  file(RELATIVE_PATH share ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_DATADIR}/beamline)
  set(CODE "\"$here/${share}/${short}\"")
  set(PYTHON "\"$here/${share}/python\"")
  set(VENVS "\"$here/${share}/${arg_VENV}\"")
  configure_file(${CMAKE_SOURCE_DIR}/cmake/python_stage.in ${CMAKE_CURRENT_BINARY_DIR}/install/${name} @ONLY FILE_PERMISSIONS ${permissions})
  install(PROGRAMS ${CMAKE_CURRENT_BINARY_DIR}/install/${name} DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES bl_${short}.py requirements.txt DESTINATION ${CMAKE_INSTALL_DATADIR}/beamline/${short})
  install(DIRECTORY beamline_${short} DESTINATION ${CMAKE_INSTALL_DATADIR}/beamline/${short} PATTERN __pycache__ EXCLUDE)
endfunction()

# What they share: python/beamline with its schemas, and python/beamline_stage.
install(DIRECTORY ${CMAKE_SOURCE_DIR}/python/beamline ${CMAKE_SOURCE_DIR}/python/beamline_stage
  DESTINATION ${CMAKE_INSTALL_DATADIR}/beamline/python PATTERN schemas EXCLUDE PATTERN __pycache__ EXCLUDE)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/schemas/ DESTINATION ${CMAKE_INSTALL_DATADIR}/beamline/python/beamline/schemas)
